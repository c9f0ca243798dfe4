"""Compiled steps: as many graphs as torch's optimizers need, and the bits of the eager step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from family_cases import OPTIMIZERS as CLASSES
from family_cases import as_many, compiles
from torch._dynamo.testing import CompileCounterWithBackend

import accel
from accel.ops.optimizers.adam import FusedAdam as AdamOp
from accel.ops.optimizers.adam8bit import Adam8bit as Adam8bitOp
from accel.optim import (
    Adam8bit,
    FusedAdam,
    FusedLamb,
    FusedLion,
)

pytestmark = [
    compiles,
    # torch's own, when it first traces any optimizer.
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]
Change = Callable[[torch.optim.Optimizer, int], None]


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


class Run:
    """A small model trained for some steps, each compiled or each eager."""

    def __init__(self, make: Callable[..., Any], backend: str | None, **options: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        self.params = [torch.nn.Parameter(torch.randn(shape, generator=generator))
                       for shape in ((3, 4), (5,))]  # fmt: skip
        self.optimizer = make(self.params)
        self.counter = CompileCounterWithBackend(backend or "eager")
        compiled = torch.compile(self.optimizer.step, backend=self.counter, **options)
        self.step = self.optimizer.step if backend is None else compiled
        self.taken = 0

    def go(self, steps: int, change: Change | None = None) -> Run:
        """Take some steps; `change` is made before each."""
        for _ in range(steps):
            if change is not None:
                change(self.optimizer, self.taken)
            generator = torch.Generator().manual_seed(self.taken)
            for param in self.params:
                param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
            self.step()
            self.taken += 1
        return self

    def tensors(self) -> list[torch.Tensor]:
        """Return parameters and states."""
        states = [self.optimizer.state[param] for param in self.params]
        return [*self.params, *(entry for state in states for entry in state.values())]


def assert_same(compiled: Run, eager: Run) -> None:
    assert len(compiled.tensors()) == len(eager.tensors())
    assert all(map(torch.equal, compiled.tensors(), eager.tensors()))


def every_number(optimizer: torch.optim.Optimizer, taken: int) -> None:
    for group in optimizer.param_groups:
        for name in group.keys() & {"lr", "weight_decay", "eps", "lr_decay"}:
            group[name] = 0.1 / (taken + 3)
        if "betas" in group:
            group["betas"] = as_many((0.9 - taken / 100, 0.99 - taken / 100), group)


def rate_only(optimizer: torch.optim.Optimizer, taken: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.1 / (taken + 3)


@pytest.mark.parametrize("cls", CLASSES)
def test_numbers_that_change_make_no_more_graphs(cls: type) -> None:
    compiled = Run(cls, "aot_eager", fullgraph=True).go(5, every_number)
    assert compiled.counter.frame_count == 2
    assert_same(compiled, Run(cls, None).go(5, every_number))


@pytest.mark.parametrize("cls", [torch.optim.AdamW, FusedAdam])
def test_a_rate_that_changes_after_eager_steps(cls: type) -> None:
    run = Run(cls, "eager", fullgraph=False)
    compiled, run.step = run.step, run.optimizer.step
    run.go(2)
    run.step = compiled
    assert run.go(10, rate_only).counter.frame_count == 2


def test_inductor_gives_the_bits_of_the_eager_step() -> None:
    compiled = Run(FusedAdam, "inductor", fullgraph=True).go(4, every_number)
    assert compiled.counter.frame_count == 2
    assert_same(compiled, Run(FusedAdam, None).go(4, every_number))


@pytest.mark.parametrize("cls", CLASSES)
def test_the_value_of_a_tensor_is_read_when_the_graph_runs(cls: type) -> None:
    def make(params: Any) -> torch.optim.Optimizer:
        optimizer = cls(params, lr=torch.tensor(0.1))
        if "betas" in optimizer.defaults:
            group = optimizer.param_groups[0]
            group["betas"] = as_many((torch.tensor(0.8), torch.tensor([0.9])), group)
        return optimizer

    def change(optimizer: torch.optim.Optimizer, taken: int) -> None:
        optimizer.param_groups[0]["lr"].mul_(0.7)
        if "betas" in optimizer.defaults:
            optimizer.param_groups[0]["betas"][0].mul_(0.99)

    compiled = Run(make, "aot_eager", fullgraph=True).go(4, change)
    assert compiled.counter.frame_count == 1
    assert_same(compiled, Run(make, None).go(4, change))


def test_a_tensor_is_not_read_as_float32() -> None:
    def make(params: Any) -> torch.optim.Optimizer:
        return FusedAdam(params, lr=torch.tensor(0.1, dtype=torch.float64))

    assert_same(Run(make, "eager", fullgraph=True).go(2), Run(make, None).go(2))


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_scalars_of_numpy(name: str) -> None:
    def change(optimizer: torch.optim.Optimizer, taken: int) -> None:
        optimizer.param_groups[0][name] = numpy.float64(0.1 / (taken + 3))

    compiled = Run(FusedAdam, "aot_eager", fullgraph=True).go(4, change)
    assert compiled.counter.frame_count <= 2
    assert_same(compiled, Run(FusedAdam, None).go(4, change))


def test_opcheck_of_numbers_in_a_tensor() -> None:
    op = AdamOp()
    lists = [[torch.rand(5)] for _ in range(4)]
    numbers = torch.tensor([0.1, 0.9, 0.99, 1e-8, 0.1], dtype=torch.float64)
    rest = (*[None] * 7, *[0.0] * 5, 3, 3, "nearest", -1, op.kernel.key, numbers)
    torch.library.opcheck(torch.ops.accel.adam_step, (*lists, *rest))


def test_a_scheduler_of_a_tensor_makes_no_more_graphs() -> None:
    schedulers = []

    def make(params: Any) -> torch.optim.Optimizer:
        optimizer = FusedAdam(params, lr=torch.tensor(0.1))
        schedulers.append(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7))
        return optimizer

    runs = Run(make, "eager"), Run(make, None)
    for _ in range(6):
        for run, scheduler in zip(runs, schedulers, strict=True):
            run.go(1)
            scheduler.step()
    assert runs[0].counter.frame_count == 1
    assert_same(*runs)


def test_a_tensor_out_of_range_is_refused_when_the_graph_runs() -> None:
    rate = torch.tensor(0.1)
    run = Run(lambda params: FusedAdam(params, lr=rate), "aot_eager").go(1)
    rate.fill_(-1.0)
    with pytest.raises(ValueError, match=r"lr is -1\.0; expected a finite number from 0 on"):
        run.go(1)


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1])
@pytest.mark.parametrize("asked", [True, False])
def test_seeds_of_64_bits(seed: int, asked: bool) -> None:
    """Whether the seed is the argument or torch's own."""
    before = torch.initial_seed()
    torch.manual_seed(0 if asked else seed)
    options: Any = {"seed": seed} if asked else {}
    try:
        for make in (
            lambda params: Adam8bit(params, **options),
            lambda params: FusedAdam(
                params, state_dtype=torch.bfloat16, rounding="stochastic", **options
            ),
        ):
            compiled = Run(make, "aot_eager", fullgraph=True).go(3)
            assert compiled.counter.frame_count == 1
            assert_same(compiled, Run(make, None).go(3))
    finally:
        torch.manual_seed(before)


def test_seeds_that_differ_between_optimizers() -> None:
    """The compiler takes an int that it has seen with another value for one that varies."""
    for seed in (1, 2**63 + 1, 2**64 - 1):
        made = {name: Run(lambda params, seed=seed: Adam8bit(params, seed=seed), name, **options)
                for name, options in (("inductor", {"fullgraph": True}), (None, {}))}  # fmt: skip
        assert_same(*(run.go(2) for run in made.values()))


def test_calls_of_an_op_with_numbers_that_change() -> None:
    """Steps, rates and seeds of calls are numbers that a graph takes, not constants."""
    counter = CompileCounterWithBackend("aot_eager")
    adam, coded = AdamOp(), Adam8bitOp()

    def call(lists: Any, codes: Any, lr: float, step: int, seed: int) -> None:
        adam.multi_tensor_adam(1, None, lists, lr, 0.9, 0.99, 1e-8, step, 1, True, 0.1)
        coded.multi_tensor_adam8bit(1, None, codes, lr, 0.9, 0.99, 1e-8, step, 1, True, 0.1, seed)

    def tensors() -> tuple[list[Any], list[Any]]:
        floats = [[torch.full((4,), 0.5 + index)] for index in range(4)]
        moment = [[torch.zeros(4, dtype=torch.uint8)], [torch.zeros(1)]]
        return floats, [[torch.ones(4)], [torch.ones(4)], *moment,
                        *([[entry[0].clone()] for entry in moment])]  # fmt: skip

    compiled = torch.compile(call, backend=counter, fullgraph=True)
    found, wanted = tensors(), tensors()
    for step, seed in enumerate((2**63 + 5, 2**64 - 1, 2**63, 2**63 + 9, 2**63 + 11), start=1):
        for run, given in ((compiled, found), (call, wanted)):
            run(*given, 0.1 / step, step, seed)
    assert counter.frame_count == 2
    for ours, theirs in zip(found, wanted, strict=True):
        assert all(torch.equal(left, right)
                   for (left,), (right,) in zip(ours, theirs, strict=True))  # fmt: skip


def test_gradients_and_groups_that_come_and_go() -> None:
    counts = []
    for cls in (torch.optim.AdamW, FusedAdam):
        torch._dynamo.reset()
        run = Run(cls, "eager")
        run.go(2)
        for _ in range(2):
            run.params[1].grad = None
            run.step()
            run.go(1)
        added = torch.nn.Parameter(torch.ones(2))
        run.optimizer.add_param_group({"params": [added], "lr": 0.5})
        run.params.append(added)
        counts.append(run.go(2).counter.frame_count)
    assert counts[1] <= counts[0]
    assert run.optimizer.state[added]["step"] == 2


def test_a_replaced_state_is_the_one_that_is_stepped() -> None:
    def replace(optimizer: torch.optim.Optimizer, taken: int) -> None:
        if taken == 2:
            for state in optimizer.state.values():
                state["exp_avg"] = torch.ones_like(state["exp_avg"])
        if taken == 4:
            optimizer.state.clear()

    compiled = Run(FusedAdam, "eager", fullgraph=True).go(6, replace)
    torchs = Run(lambda params: torch.optim.AdamW(params, weight_decay=0), None).go(6, replace)
    for found, wanted in zip(compiled.tensors(), torchs.tensors(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_ratios_are_those_of_the_last_step_compiled_or_not() -> None:
    run, eager = Run(FusedLamb, "eager", fullgraph=True).go(2), Run(FusedLamb, None).go(2)
    for step in (run.step, run.optimizer.step, run.step):
        run.step = step
        assert run.optimizer.get_lamb_coeffs() == eager.optimizer.get_lamb_coeffs()
        run.go(1)
        eager.go(1)
    assert run.counter.frame_count == 1


@pytest.mark.parametrize("fullgraph", [True, False])
def test_what_eager_refuses_is_refused(fullgraph: bool) -> None:
    """Without an unbroken graph asked for, in the same words; no state has been added."""
    run = Run(FusedAdam, "eager", fullgraph=fullgraph)
    for param in run.params:
        param.grad = torch.ones_like(param).to_sparse()
    error = torch._dynamo.exc.Unsupported if fullgraph else TypeError
    with pytest.raises(error, match=None if fullgraph else r"grads\[0\] has layout"):
        run.step()
    assert not run.optimizer.state


def test_a_class_without_an_op_steps_outside_of_the_graph() -> None:
    class Elsewhere(FusedAdam):
        family = None

    compiled = Run(Elsewhere, "eager").go(3, rate_only)
    assert compiled.counter.frame_count == 0
    assert_same(compiled, Run(FusedAdam, None).go(3, rate_only))


def test_a_replay_reads_the_rate_of_a_tensor_on_the_host() -> None:
    """A graph of the host's, as a device's graph does."""
    cpu, rate = accel.accelerator_for("cpu"), torch.tensor(0.5)
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = FusedLion([param], lr=rate)
    param.grad = torch.ones(3)
    graph = cpu.create_graph()
    with cpu.capture_to_graph(graph):
        optimizer.step()
    before = param.detach().clone()
    rate.fill_(0.25)
    cpu.replay_graph(graph)
    assert torch.equal(param.detach(), before - 0.25)
