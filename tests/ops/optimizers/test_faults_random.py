"""Random bits belong to a tensor of a group, whoever steps it and beside whom."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from family_cases import CASES, CODED, OPTIMIZERS, Case, compiles, tensors_of
from torch import Tensor, nn

import accel
from accel.ops import abi
from accel.ops.optimizers.adam import FusedAdam as AdamOp
from accel.ops.optimizers.lists import TensorLists
from accel.optim import (
    FusedAdam,
    FusedLamb,
)

ROUNDED = {"state_dtype": torch.bfloat16, "rounding": "stochastic", "seed": 3}
CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    **{cls.__name__: (cls, ROUNDED) for cls in OPTIMIZERS},
    **{cls.__name__: (cls, {"rounding": "stochastic", "seed": 3}) for cls in CODED},
    "masters": (FusedAdam, {**ROUNDED, "master_dtype": torch.float32}),
}  # fmt: skip


@pytest.fixture(params=CLASSES)
def make(request: pytest.FixtureRequest) -> Any:
    cls, options = CLASSES[request.param]
    return lambda params: cls(params, lr=1e-2, **options)


def mixed() -> list[nn.Parameter]:
    """Parameters that no native call takes together, equal elements in the last of each type."""
    draw = torch.Generator().manual_seed(0)
    values = [
        torch.randn(20, 30, generator=draw)[::2, ::2],
        torch.randn(300, generator=draw).bfloat16(),
        torch.randn(0, generator=draw),
        torch.randn(300, generator=draw),
        torch.randn(9, 40, generator=draw).t(),
        torch.randn(300, generator=draw).half(),
        torch.ones(600),
        torch.ones(600).bfloat16(),
        torch.ones(600),
        torch.ones(1200)[::2],
    ]
    return [nn.Parameter(value) for value in values]


def take_steps(
    params: list[nn.Parameter], optimizer: Any, steps: int = 3, without: tuple[int, ...] = ()
) -> list[Tensor]:
    """Step with gradients that are equal where parameters are; returns parameters and states."""
    for taken in range(steps):
        for index, param in enumerate(params):
            draw = torch.Generator().manual_seed(100 * taken + param.numel())
            grad = torch.randn(param.shape, generator=draw).to(param.dtype)
            param.grad = None if index in without else grad
        optimizer.step()
    return results(params, optimizer)


def results(params: list[nn.Parameter], optimizer: Any) -> list[Tensor]:
    states = [entry for param in params for entry in optimizer.state[param].values()]
    return [*(param.detach() for param in params), *states]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


def test_native_and_reference_draw_the_same(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for rung in ("native", "reference"):
        monkeypatch.setenv("ACCEL_OPS", rung)
        params = mixed()
        optimizer = make(params)
        # LAMB's norms are added up in another order, so that later steps differ by more.
        found.append(take_steps(params, optimizer, 1 if isinstance(optimizer, FusedLamb) else 3))
    for ours, theirs in zip(*found, strict=True):
        if isinstance(optimizer, FusedLamb) and ours.dtype == torch.float32:
            torch.testing.assert_close(ours, theirs)
        else:
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("rung", ["native", "reference"])
@pytest.mark.parametrize("other", ["strided", "bfloat16", "without a gradient"])
def test_equal_tensors_draw_different_bits(
    make: Any, other: str, rung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEL_OPS", rung)
    values = torch.full((600,), 0.5)
    others = {"strided": torch.full((1200,), 0.5)[::2], "bfloat16": values.bfloat16()}
    params = [nn.Parameter(others.get(other, values.clone())), nn.Parameter(values)]
    optimizer = make(params)
    # Exact in every type; states are of one type, so that the same numbers are rounded.
    for param in reversed(params):
        param.grad = (torch.arange(param.numel()) % 251 / 256).to(param.dtype)
        if other == "without a gradient":
            optimizer.step()
            param.grad = None
    optimizer.step()
    left, right = (optimizer.state[param] for param in params)
    (moment,) = left.keys() & {"exp_avg", "sum"}
    assert not torch.equal(left[moment], right[moment])


@pytest.mark.parametrize("rung", ["native", "reference"])
def test_neighbours_change_no_bits(make: Any, rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout, a type, an empty tensor or a gradient that is missing are others' own affair."""
    monkeypatch.setenv("ACCEL_OPS", rung)
    params = mixed()
    optimizer = make(params)
    take_steps(params, optimizer)
    expected = results(params[6:], optimizer)
    for change in (lambda p: p.t().contiguous().t(), Tensor.double, lambda p: p.new_zeros(0)):
        params = mixed()
        if isinstance(make(params), CODED) and change is Tensor.double:
            continue
        params[3] = nn.Parameter(change(params[3].detach()))
        optimizer = make(params)
        take_steps(params, optimizer)
        assert same(results(params[6:], optimizer), expected)
    params = mixed()
    optimizer = make(params)
    take_steps(params, optimizer, without=(1, 3))
    assert same(results(params[6:], optimizer), expected)


def test_groups_draw_different_bits(make: Any) -> None:
    params = [nn.Parameter(torch.ones(600)) for _ in range(2)]
    optimizer = make([{"params": [param]} for param in params])
    take_steps(params, optimizer)
    states = [list(optimizer.state[param].values()) for param in params]
    assert not same(*states)


@compiles
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_step_draws_the_same(make: Any) -> None:
    found = []
    for compiled in (False, True):
        torch._dynamo.reset()
        params = mixed()
        optimizer = make(params)
        if compiled:
            optimizer.step = torch.compile(optimizer.step, backend="eager")
        for without in ((), (0, 3), (1, 3)):
            take_steps(params, optimizer, 1, without)
        found.append(results(params, optimizer))
    assert same(*found)


def test_a_replayed_step_draws_the_same(make: Any) -> None:
    cpu, found = accel.accelerator_for("cpu"), []
    for captured in (False, True):
        params = mixed()
        optimizer = make(params)
        take_steps(params, optimizer, 1, without=(0, 3))
        step = optimizer.step
        if captured:
            graph = cpu.create_graph()
            with cpu.capture_to_graph(graph):
                optimizer.step()
            step = partial(cpu.replay_graph, graph)
        for _ in range(3 - captured):
            step()
        found.append(results(params, optimizer))
    assert same(*found)


def lists_of(case: Case, dtype: torch.dtype, indices: Any = range(6)) -> TensorLists:
    shapes = [(300,), (17, 20), (0,), (1024,), (5,), (3000,)]
    state = torch.bfloat16 if not case.reference.family.coded else torch.float32
    return case.lists(shapes, dtype, state=state).select(indices)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rung", ["native", "reference"])
def test_a_call_steps_any_part_of_a_list(name: str, rung: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    kernel = (case.builder().load() if rung == "native" else case.reference()).kernel
    hyper = case.hyper(rounding="stochastic", seed=9)
    together = lists_of(case, dtype)
    kernel.run(together, hyper)
    for indices in ((0, 2, 5), (1,), (4, 3)):
        part = lists_of(case, dtype, indices)
        kernel.run(part, hyper)
        assert same(tensors_of(part), tensors_of(together.select(indices)))


@pytest.mark.parametrize("start", [0, 5, 1000, 2**32 - 700, 2**40 + 1])
@pytest.mark.parametrize("rung", ["native", "reference"])
def test_a_call_steps_a_part_of_a_tensor(start: int, rung: str) -> None:
    case = CASES["adam"]
    op: Any = case.builder().load() if rung == "native" else case.reference()
    hyper = case.hyper(rounding="stochastic", seed=9)

    def lists() -> TensorLists:
        made = case.lists([(3000,)], torch.bfloat16, state=torch.bfloat16)
        made.starts = [start]
        return made

    whole, parts = lists(), lists()
    op.kernel.run(whole, hyper)
    at = 0
    for end in (1, 699, 700, 1724, 3000):
        roles = {role: [listed[0][at:end]] for role, listed in parts.roles.items()}
        op.kernel.run(TensorLists(roles, starts=[start + at]), hyper)
        at = end
    assert same(tensors_of(parts), tensors_of(whole))
    AdamOp().kernel.run(again := lists(), hyper)
    assert same(tensors_of(again), tensors_of(whole))


def test_codes_know_whole_tensors_only() -> None:
    case = CASES["adam8bit"]
    lists = case.lists([(300,)])
    lists.starts = [256]
    with pytest.raises(Exception, match=str(abi.UNSUPPORTED)):
        case.builder().load().kernel.run(lists, case.hyper())
