"""References in batches: the bits of a loop over tensors, as few calls as torch, little memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import reference_loop
import torch
from family_cases import CASES, tensors_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference import batches
from accel.ops.optimizers.reference.adam import (
    ADAM_ADAMW,
    ADAM_AMSGRAD,
    ADAM_BIAS_CORRECTION,
    ADAM_ROLLBACK,
)
from accel.ops.optimizers.reference.common import correction, has_float64

LOOPS: dict[str, Callable[[TensorLists, Any], None]] = {
    name: getattr(reference_loop, name) for name in ("adam", "adagrad", "lion", "lamb")
}
HALVES = (torch.bfloat16, torch.float16)
SHAPES = ((), (1,), (0,), (3, 0), (5,), (7, 3), (3, 7), (21,), (2, 3, 4), (400,), (20, 30))
FLAGS = {"adam": 15, "adagrad": 1, "lion": 1, "lamb": 28}
options = settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def fields(lists: TensorLists) -> dict[str, list[Tensor]]:
    return {role: [*listed] for role, listed in lists.by_field().items()}


def assert_same(found: TensorLists, wanted: TensorLists) -> None:
    for role, listed in fields(wanted).items():
        for index, (ours, theirs) in enumerate(zip(fields(found)[role], listed, strict=True)):
            same = (ours == theirs) | (ours.isnan() & theirs.isnan())
            assert same.all(), f"{role}[{index}] of shape {tuple(theirs.shape)}"
            assert torch.equal(ours.signbit(), theirs.signbit()) or ours.isnan().any()


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """Return a copy of a tensor in a layout."""
    if layout == "reversed" and tensor.dim() > 1:
        order = [*range(tensor.dim())][::-1]
        return tensor.permute(order).contiguous().permute(order)
    if layout == "strided" and tensor.dim():
        spaced = tensor.new_zeros(*tensor.shape[:-1], 2 * tensor.shape[-1])
        return spaced[..., ::2].copy_(tensor)
    return tensor.clone()


@st.composite
def steps_of(draw: st.DrawFn, name: str) -> tuple[Callable[[], TensorLists], Any]:
    """Draw the numbers of a step and what makes its tensors."""
    case = CASES[name]
    double = draw(st.integers(0, 5)) == 0
    kinds = (torch.float64,) if double else (torch.float32, *HALVES)
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=12))
    param, grad, state = (draw(st.sampled_from(kinds)) for _ in range(3))
    counts = draw(st.sampled_from((None, "same", "own")))
    masters = not double and draw(st.booleans())
    layouts = draw(st.lists(st.sampled_from(("plain", "plain", "reversed", "strided", "mixed")),
                            min_size=12, max_size=12))  # fmt: skip
    flags = draw(st.integers(0, FLAGS[name])) & FLAGS[name]
    amsgrad = name == "adam" and bool(flags & ADAM_AMSGRAD)
    parts, starts = draw(st.booleans()), draw(st.booleans())
    seed = draw(st.integers(0, 3))

    def make() -> TensorLists:
        lists = case.lists(shapes, param, grad, state, masters=masters, seed=seed,
                           steps=None if counts is None else 4.0)  # fmt: skip
        if amsgrad:
            squares = lists.roles["exp_avg_sqs"]
            lists.roles["max_exp_avg_sqs"] = [tensor * 0.75 for tensor in squares]
        for role, listed in lists.roles.items():
            lists.roles[role] = [
                laid_out(
                    tensor,
                    ("reversed" if role == "grads" else "plain") if kind == "mixed" else kind,
                )
                for tensor, kind in zip(listed, layouts, strict=False)
            ]
        if counts == "own" and lists.steps is not None:
            for index, step in enumerate(lists.steps):
                step.fill_(float(index % 3))
        numbers = [3 * index + 1 for index in range(len(shapes))] if parts else None
        first = [1000 * (index % 2) for index in range(len(shapes))] if starts else None
        return TensorLists(lists.roles, lists.steps, lists.extras, numbers, first)

    numbers: dict[str, Any] = {"flags": flags, "seed": seed}
    numbers["rounding"] = draw(st.sampled_from(("nearest", "stochastic")))
    numbers["weight_decay"] = draw(st.sampled_from((0.0, 0.1)))
    if name != "adagrad":
        numbers["beta1"] = draw(st.sampled_from((0.0, 0.3, 0.9)))
    for scalar, values in (
        ("lr_tensor", (0.03,)), ("grad_scale", (8.0,)), ("found_inf", (0.0, 1.0)),
        ("noop_flag", (0.0, 1.0)),
    ):  # fmt: skip
        value = draw(st.sampled_from((None, None, *values)))
        numbers[scalar] = None if value is None else torch.tensor(value)
    return make, case.hyper(**numbers)


def small_batches(patch: pytest.MonkeyPatch) -> None:
    for name, size in (("_SERIAL", 60), ("_HOST", 64), ("_DEVICE", 256), ("_NOISE", 2)):
        patch.setattr(batches, name, size)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", LOOPS)
@options
@given(data=st.data())
def test_the_bits_of_a_loop(name: str, small: bool, data: st.DataObject) -> None:
    make, hyper = data.draw(steps_of(name))
    found, wanted = make(), make()
    with pytest.MonkeyPatch.context() as patch:
        if small:
            small_batches(patch)
        CASES[name].reference.family.reference(found, hyper)
    LOOPS[name](wanted, hyper)
    assert_same(found, wanted)


@pytest.mark.parametrize("name", LOOPS)
@options
@given(data=st.data())
def test_steps_that_only_a_device_knows(name: str, data: st.DataObject) -> None:
    """The same bits, up to what a power of a vector and one of a number make of the corrections."""
    make, hyper = data.draw(steps_of(name))
    found, wanted = make(), make()
    if found.steps is None:
        return

    def late(tensors: TensorLists, index: int, hyper: Any, back: bool = False) -> Tensor:
        assert tensors.steps is not None
        return tensors.steps[index].double() + (not back)

    with pytest.MonkeyPatch.context() as patch:
        small_batches(patch)
        patch.setattr(batches, "_host_times", lambda lists, *_: [None] * len(lists.params))
        patch.setattr(reference_loop, "step_number", late)
        CASES[name].reference.family.reference(found, hyper)
        LOOPS[name](wanted, hyper)
    if name in ("adagrad", "lion"):
        assert_same(found, wanted)
        return
    for role, listed in fields(wanted).items():
        for ours, theirs in zip(fields(found)[role], listed, strict=True):
            ulp = 1e-12 if theirs.dtype == torch.float64 else 1e-6
            wide = theirs.dtype in HALVES
            torch.testing.assert_close(
                ours, theirs, rtol=2e-2 if wide else ulp, atol=1e-3 if wide else ulp, equal_nan=True
            )


def test_rollback_in_batches() -> None:
    hyper = CASES["adam"].hyper(flags=ADAM_ROLLBACK | 3)
    found, wanted = (CASES["adam"].lists([(9,)] * 4 + [(3, 4)], steps=5.0) for _ in range(2))
    CASES["adam"].reference.family.reference(found, hyper)
    LOOPS["adam"](wanted, hyper)
    assert_same(found, wanted)


class Count(TorchDispatchMode):
    """Counts what is asked of torch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


def calls_of(step: Callable[[], Any]) -> list[str]:
    with Count() as count:
        step()
    return count.calls


@pytest.mark.parametrize("shape", [(1024,), (32, 32)])
@pytest.mark.parametrize("number", [100, 1000])
@pytest.mark.parametrize(
    ("name", "flags", "peer", "chosen"),
    [
        ("adam", ADAM_ADAMW | ADAM_BIAS_CORRECTION, torch.optim.AdamW, {}),
        ("adam", ADAM_BIAS_CORRECTION, torch.optim.Adam, {}),
        ("adagrad", 0, torch.optim.Adagrad, {}),
    ],
)  # fmt: skip
def test_as_few_calls_as_torchs_foreach(
    name: str, flags: int, peer: type, chosen: dict[str, Any], number: int, shape: tuple[int, ...]
) -> None:
    lists, hyper = CASES[name].lists([shape] * number, steps=1.0), CASES[name].hyper(flags=flags)
    ours = calls_of(lambda: CASES[name].reference.family.reference(lists, hyper))
    params = [torch.nn.Parameter(torch.ones(shape)) for _ in range(number)]
    for param in params:
        param.grad = torch.ones(shape)
    optimizer = peer(params, lr=0.1, weight_decay=0.1, foreach=True, **chosen)
    optimizer.step()
    theirs = calls_of(optimizer.step)
    assert len(ours) <= 1.1 * len(theirs)


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("flag", [None, "found_inf"])
def test_nothing_is_read_from_a_device(name: str, flag: str | None) -> None:
    """Only steps on the host are read; a scalar on a device never is."""
    lists = CASES[name].lists([(9,)] * 3 + [(4, 2), (5,)], steps=1.0)
    hyper = CASES[name].hyper(lr_tensor=torch.tensor(0.1), grad_scale=torch.tensor(2.0),
                              **({} if flag is None else {flag: torch.tensor(0.0)}))  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_host_times", lambda lists, *_: [None] * len(lists.params))
        calls = calls_of(lambda: CASES[name].reference.family.reference(lists, hyper))
    assert not [call for call in calls if "local_scalar" in call or "nonzero" in call]


def test_tensors_without_memory() -> None:
    for name in LOOPS:
        lists = CASES[name].lists([(9,)] * 3 + [(4, 2), (5,)], steps=1.0)
        meta = TensorLists(
            {
                role: [tensor.to("meta") for tensor in listed]
                for role, listed in lists.roles.items()
            },
            [step.to("meta") for step in lists.steps or ()],
            {role: [tensor.to("meta") for tensor in one] for role, one in lists.extras.items()},
        )
        for rounding in ("nearest", "stochastic"):
            CASES[name].reference.family.reference(meta, CASES[name].hyper(rounding=rounding))


def test_a_subclass_goes_by_itself() -> None:
    """What answers for itself is never put into a stack with others."""

    class Own(Tensor):
        pass

    found, wanted = (CASES["adam"].lists([(9,)] * 3, steps=1.0) for _ in range(2))
    found.roles["params"] = [t.as_subclass(Own) if i == 1 else t
                             for i, t in enumerate(found.params)]  # fmt: skip
    chosen = [*batches.batches(found, CASES["adam"].hyper())]
    assert sorted(len(batch.tensors.params) for batch in chosen) == [1, 2]
    CASES["adam"].reference.family.reference(found, CASES["adam"].hyper())
    LOOPS["adam"](wanted, CASES["adam"].hyper())
    assert all(map(torch.equal, tensors_of(found), tensors_of(wanted)))


@pytest.mark.parametrize("shape", [(9,), (3, 100)])
@pytest.mark.parametrize("name", LOOPS)
def test_a_negated_view_goes_by_itself(name: str, shape: tuple[int, ...]) -> None:
    """Operators over lists refuse to write one, which any list of a step may have."""
    for role in CASES[name].lists([shape], steps=1.0).by_field():
        found, wanted = (CASES[name].lists([shape] * 3, steps=1.0) for _ in range(2))
        for lists in (found, wanted):
            lists.by_field()[role][1] = torch._neg_view(-lists.by_field()[role][1])  # type: ignore[index]
        with pytest.MonkeyPatch.context() as patch:
            small_batches(patch)
            CASES[name].reference.family.reference(found, CASES[name].hyper())
        LOOPS[name](wanted, CASES[name].hyper())
        assert_same(found, wanted)


def test_a_counter_that_tensors_share_counts_all() -> None:
    found, wanted = (CASES["lion"].lists([(9,)] * 3, steps=1.0) for _ in range(2))
    for lists in (found, wanted):
        assert lists.steps is not None
        lists.steps = [lists.steps[0]] * 3
    CASES["lion"].reference.family.reference(found, CASES["lion"].hyper())
    LOOPS["lion"](wanted, CASES["lion"].hyper())
    assert_same(found, wanted)


def peak_of(step: Callable[[], Any]) -> int:
    """Return the most bytes that a step has of its own at once."""
    profile: AbstractContextManager[Any] = torch.profiler.profile(profile_memory=True)
    with profile as profiled:
        step()
    events = profiled.profiler.kineto_results.events()
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    size = most = 0
    for _, change in sorted(changes, key=lambda entry: entry[0]):
        size += change
        most = max(most, size)
    return most


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("name", ["adam", "lion"])
@pytest.mark.parametrize("shapes", [[(1 << 20,)], [(1024,)] * 999, [(n, 8) for n in range(1, 400)],
                                    [(500, 2000)]])  # fmt: skip
def test_memory_for_a_moment(name: str, rounding: str, shapes: list[tuple[int, ...]]) -> None:
    """Less than 8 MiB with one thread, however large the tensors are, and however many."""
    kind = torch.bfloat16
    lists, hyper = CASES[name].lists(shapes, kind, kind, kind), CASES[name].hyper(rounding=rounding)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peak = peak_of(lambda: CASES[name].reference.family.reference(lists, hyper))
    finally:
        torch.set_num_threads(threads)
    assert 0 < peak < 8 << 20


def test_a_correction_without_float64() -> None:
    """Devices without it get nearly all digits that float32 has."""
    for beta in (0.0, 0.5, 0.9, 0.999, 0.999999):
        times = torch.tensor([1.0, 2.0, 10.0, 1000.0, 1e6])
        found = correction(beta, times)
        torch.testing.assert_close(
            torch.as_tensor(found).double(), 1.0 - beta ** times.double(), rtol=4e-7, atol=0.0
        )
    assert has_float64(torch.device("cpu")) and not has_float64(torch.device("mps"))
