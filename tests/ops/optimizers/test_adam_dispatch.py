"""Adam in the dispatcher: `opcheck`, and ``torch.compile`` of what calls it."""

from __future__ import annotations

import contextlib
import functools
from types import SimpleNamespace

import pytest
import torch
from adam_cases import Case
from family_cases import compiles

import accel
from accel.ops.optimizers.abi import ROUNDING
from accel.ops.optimizers.adam import FusedAdam
from accel.ops.optimizers.adam8bit import Adam8bit
from accel.ops.optimizers.capture import check_repeatable
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam import AdamHyper

NUMBERS = (1e-2, 0.9, 0.999, 1e-8, 3, 1, True, 0.1)


def op_arguments(op: FusedAdam, **optional: object) -> tuple:
    cases = [Case.random((30,)), Case.random((4, 5), torch.bfloat16)]
    lists = [[getattr(case, field) for case in cases]
             for field in ("param", "grad", "exp_avg", "exp_avg_sq")]  # fmt: skip
    names = (
        "max_exp_avg_sqs",
        "masters",
        "steps",
        "lr_tensor",
        "grad_scale",
        "found_inf",
        "noop_flag",
    )
    given = [optional.get(name) for name in names]
    flags = 3 + 4 * ("max_exp_avg_sqs" in optional)
    return (*lists, *given, 1e-2, 0.9, 0.999, 1e-8, 0.1, 3, flags, "nearest", 0, op.kernel.key)


@compiles
@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize(
    "optional",
    [
        {},
        {"steps": [torch.tensor(2.0), torch.tensor(2.0)], "noop_flag": torch.tensor([0])},
        {"max_exp_avg_sqs": [torch.rand(30), torch.rand(4, 5)], "found_inf": torch.tensor(0.0)},
        {"masters": [torch.rand(30), torch.rand(4, 5)], "lr_tensor": torch.tensor(0.1)},
    ],
)
def test_opcheck(name: str, optional: dict, fused_adam: FusedAdam) -> None:
    op = fused_adam if name == "native" else FusedAdam()
    torch.library.opcheck(torch.ops.accel.adam_step, op_arguments(op, **optional))


@compiles
@pytest.mark.parametrize("name", ["native", "reference"])
def test_compiled_caller(name: str, fused_adam: FusedAdam) -> None:
    op = fused_adam if name == "native" else FusedAdam()
    case, eager = Case.random((3, 50)), Case.random((3, 50))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def train(lists: list) -> torch.Tensor:
        op.multi_tensor_adam(65536, None, lists, *NUMBERS)
        return lists[1][0] + 1

    after = train(case.lists())
    op.multi_tensor_adam(65536, None, eager.lists(), *NUMBERS)
    assert torch.equal(case.param, eager.param)
    assert torch.equal(case.exp_avg_sq, eager.exp_avg_sq)
    assert torch.equal(after, eager.param + 1)


def trained(steps: int, optimizer_of: object, *, captured: bool) -> list[torch.Tensor]:
    """Parameters and states after 2 steps, then `steps` - 2 captured and replayed, and 1 more."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 1))
    optimizer = optimizer_of(model.parameters())
    inputs = torch.randn(8, 5)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        model(inputs).square().mean().backward()
        optimizer.step()

    step()
    step()
    if captured:
        cpu = accel.accelerator_for("cpu")
        graph = cpu.create_graph()
        with cpu.capture_to_graph(graph):
            step()
        for _ in range(steps - 3):
            cpu.replay_graph(graph)
        step()
    else:
        for _ in range(steps - 1):
            step()
    states = [value for param in model.parameters() for value in optimizer.state[param].values()]
    return [*(param.detach() for param in model.parameters()), *states]


@pytest.mark.parametrize("policy", ["auto", "reference"])
def test_a_captured_step_replays(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_OPS", policy)
    make = functools.partial(accel.optim.FusedAdam, lr=0.1, weight_decay=0.1)
    found, wanted = (trained(6, make, captured=captured) for captured in (True, False))
    assert all(map(torch.equal, found, wanted))


STOCHASTIC = {
    "states": functools.partial(
        accel.optim.FusedAdam, lr=0.1, rounding="stochastic", seed=1, state_dtype=torch.bfloat16
    ),
    "codes": functools.partial(accel.optim.Adam8bit, lr=0.1, seed=1),
}


@pytest.mark.parametrize("policy", ["auto", "reference"])
@pytest.mark.parametrize("kind", STOCHASTIC)
def test_replays_draw_the_random_bits_of_their_steps(
    kind: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that drew the captured step's bits again would differ from the eager step."""
    monkeypatch.setenv("ACCEL_OPS", policy)
    found, wanted = (trained(6, STOCHASTIC[kind], captured=captured) for captured in (True, False))
    assert all(map(torch.equal, found, wanted))


def test_a_capture_with_the_hosts_step_refuses_random_bits() -> None:
    op = Adam8bit()
    param, codes, scale = torch.ones(4), torch.zeros(4, dtype=torch.uint8), torch.zeros(1)
    lists = [[torch.ones(4)], [param], [codes], [scale], [codes.clone()], [scale.clone()]]
    cpu = accel.accelerator_for("cpu")
    refused = pytest.raises(accel.errors.Unsupported, match="same random bits")
    with refused, cpu.capture_to_graph(cpu.create_graph()):
        op.multi_tensor_adam8bit(1, None, lists, *NUMBERS, 7)
    assert torch.equal(param, torch.ones(4))
    op.multi_tensor_adam8bit(1, None, lists, *NUMBERS, 7)
    assert not torch.equal(param, torch.ones(4))


@pytest.mark.parametrize("captured", [True, False])
def test_a_devices_capture_is_asked_of_the_device(
    captured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`meta` in the place of a device that can capture."""
    module = SimpleNamespace(
        is_current_stream_capturing=lambda: captured, device=lambda _: contextlib.nullcontext()
    )
    on_device = TensorLists({"params": [torch.empty(3, device="meta")]})
    counted = TensorLists(on_device.roles, [torch.empty((), device="meta")])
    numbers = {"lr": 0.1, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
    plain, drawing = (AdamHyper(**numbers, rounding=one) for one in ROUNDING)
    check_repeatable(on_device, drawing, coded=True)  # without a module nothing can be captured
    monkeypatch.setattr(torch, "meta", module, raising=False)
    monkeypatch.setattr(torch, "get_device_module", lambda _: module)
    check_repeatable(counted, drawing, coded=True)
    check_repeatable(on_device, plain, coded=False)
    refused = pytest.raises(accel.errors.Unsupported, match=r"meta.*accel\.optim")
    for hyper, coded in ((drawing, False), (plain, True)):
        with refused if captured else contextlib.nullcontext():
            check_repeatable(on_device, hyper, coded=coded)


def test_a_captured_call_is_checked_as_an_eager_one(fused_adam: FusedAdam) -> None:
    case = Case.random((3, 50))
    cpu = accel.accelerator_for("cpu")
    lists = case.lists()
    lists[2] = lists[3]
    with pytest.raises(ValueError, match="shares memory"), cpu.capture_to_graph(cpu.create_graph()):
        fused_adam.multi_tensor_adam(65536, None, lists, *NUMBERS)
