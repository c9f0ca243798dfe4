"""The HPU strategy, whole, on the simulated device; run in a process of its own, in either mode."""

from __future__ import annotations

import os

import pytest
import torch
from torch import distributed as dist

import accel
from accel.errors import Unsupported
from accel.hpu import HPUAccelerator
from accel.testing import AcceleratorConformance

LAZY = os.environ.get("PT_HPU_LAZY_MODE") == "1"


class TestHPU(AcceleratorConformance):
    accelerator = HPUAccelerator


@pytest.fixture
def acc() -> accel.Accelerator:
    found = accel.get_accelerator()
    assert found.name == "hpu"
    return found


def test_probe_names_the_mode(acc: accel.Accelerator) -> None:
    verdict = acc.probe()
    assert verdict
    assert verdict.note == f"2 device(s), {'lazy' if LAZY else 'eager'} mode"


def test_steps_are_marked_in_lazy_mode_only(acc: accel.Accelerator) -> None:
    from habana_frameworks.torch import core

    before = core.steps
    acc.synchronize()
    assert core.steps - before == int(LAZY)


def test_graphs_are_lazy_modes(acc: accel.Accelerator) -> None:
    assert acc.has("graphs") == LAZY
    if not LAZY:
        with pytest.raises(Unsupported, match="PT_HPU_LAZY_MODE=1"):
            acc.create_graph()


def test_hccl_is_registered_on_demand(acc: accel.Accelerator) -> None:
    assert acc.communication_backend_name() == "hccl"
    assert dist.Backend.default_device_backend_map["hpu"] == "hccl"


def test_no_global_setting_changes(acc: accel.Accelerator) -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_memory_by_gaudis_names(acc: accel.Accelerator) -> None:
    kept = torch.ones(1 << 18, device="hpu:1")
    stats = acc.memory_stats(1)
    assert stats["InUse"] == stats["allocated_bytes.all.current"] >= kept.nbytes
    assert acc.total_memory(1) == stats["Limit"] == acc.available_memory(1) + stats["InUse"]


def stepped(device: str, times: int = 3, **options: object) -> dict[str, torch.Tensor]:
    """Two parameters' values and states after steps, the second one stepped once less."""
    parameters = [
        torch.nn.Parameter(torch.linspace(-1, 1, count, device=device)) for count in (40, 7)
    ]
    optimizer = accel.optim.FusedAdam(parameters, lr=0.1, **options)
    for time in range(times):
        for number, parameter in enumerate(parameters):
            slope = torch.linspace(0.5, time + 1, parameter.numel(), device=device)
            parameter.grad = None if number > time else slope.to(parameter.dtype)
        optimizer.step()
    found = {}
    for number, parameter in enumerate(parameters):
        found[f"{number}"] = parameter.detach().cpu()
        for name, value in optimizer.state[parameter].items():
            found[f"{number}.{name}"] = value.cpu()
    return found


def vendor_steps() -> int:
    from habana_frameworks.torch.hpex import optimizers

    return optimizers.steps


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("eps", [1e-8, 0.3])
def test_adamw_is_the_vendors_in_eager_mode(
    acc: accel.Accelerator, eps: float, bias_correction: bool
) -> None:
    options = {"weight_decay": 0.1, "eps": eps, "bias_correction": bias_correction}
    before = vendor_steps()
    found = stepped("hpu", **options)
    assert vendor_steps() - before == (0 if LAZY else 3)
    torch.testing.assert_close(found, stepped("cpu", **options))


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1, "adam_w_mode": False},
        {"amsgrad": True},
        {"maximize": True},
        {"rounding": "stochastic"},
    ],
    ids=str,
)
def test_steps_that_the_vendor_lacks_are_the_references(
    acc: accel.Accelerator, options: dict[str, object]
) -> None:
    before = vendor_steps()
    found = stepped("hpu", **options)
    assert vendor_steps() == before
    torch.testing.assert_close(found, stepped("cpu", **options))


def test_steps_told_from_the_device_are_the_references(acc: accel.Accelerator) -> None:
    before = vendor_steps()
    parameter = torch.nn.Parameter(torch.ones(8, device="hpu"))
    parameter.grad = torch.ones_like(parameter)
    optimizer = accel.optim.FusedAdam([parameter], lr=0.1)
    optimizer.found_inf = torch.ones((), device="hpu")
    optimizer.step()
    assert vendor_steps() == before
    assert parameter.detach().cpu().tolist() == [1.0] * 8


def test_counts_of_steps_are_read_again_after_others_wrote_them() -> None:
    from accel.ops.optimizers.gaudi.adam import StepCounts

    counts = StepCounts()
    steps = [torch.tensor(4.0, device="hpu"), torch.tensor(9.0, device="hpu")]
    assert counts.read(steps) == [4.0, 9.0]
    counts.advance(steps, [4.0, 9.0])
    assert counts.read(steps) == [5.0, 10.0]
    steps[1].fill_(2.0)
    assert counts.read(steps) == [5.0, 2.0]


def test_known_counts_of_steps_do_not_wait_for_the_device(monkeypatch) -> None:
    from accel.ops.optimizers.gaudi.adam import StepCounts

    counts = StepCounts()
    steps = [torch.tensor(4.0, device="hpu")]
    counts.advance(steps, counts.read(steps))
    monkeypatch.setattr(torch, "stack", None)
    assert counts.read(steps) == [5.0]


def test_rungs_say_what_is_the_vendors(acc: accel.Accelerator) -> None:
    adam = acc.create_op_builder("FusedAdamBuilder")
    verdict = dict(adam.rungs())["vendor"]
    assert bool(verdict) != LAZY
    assert ("lazy mode" if LAZY else "optimizers.FusedAdamW") in str(verdict)
    assert adam.load().implementation == ("reference" if LAZY else "vendor")
    lamb = acc.create_op_builder("FusedLambBuilder")
    assert "ratio of norms" in str(dict(lamb.rungs())["vendor"])
    assert lamb.load().implementation == "reference"


def test_one_module_is_visible(acc: accel.Accelerator) -> None:
    environment: dict[str, str] = {}
    acc.set_visible_devices_envs(environment, [1])
    assert environment == {"HABANA_VISIBLE_MODULES": "1"}
