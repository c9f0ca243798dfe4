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


def test_fused_adam_steps_on_the_device(acc: accel.Accelerator) -> None:
    results = []
    for device in ("cpu", "hpu"):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 40, device=device))
        optimizer = accel.optim.FusedAdam([parameter], lr=0.1, weight_decay=0.01)
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        results.append(parameter.detach().cpu())
    torch.testing.assert_close(*results)


def test_one_module_is_visible(acc: accel.Accelerator) -> None:
    environment: dict[str, str] = {}
    acc.set_visible_devices_envs(environment, [1])
    assert environment == {"HABANA_VISIBLE_MODULES": "1"}
