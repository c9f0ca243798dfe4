"""The user's default dtype and device change no result, and no buffer is written past its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from family_cases import CASES, Case, tensors_of
from family_cases import OPTIMIZERS as ALL
from torch import Tensor, nn

from accel.ops.optimizers.lists import TensorLists
from accel.optim import (
    FusedAdam,
)


@pytest.fixture
def defaults() -> Iterator[Callable[..., None]]:
    """Set defaults for one test."""

    def choose(dtype: torch.dtype | None = None, device: str | None = None) -> None:
        torch.set_default_dtype(dtype or torch.float32)
        torch.set_default_device(device)

    yield choose
    choose()


def trained(cls: Any, dtype: torch.dtype = torch.float32, **options: Any) -> list[Tensor]:
    """Return parameters and states after some steps, the parameters made under the defaults."""
    make = torch.Generator().manual_seed(3)
    shapes = ((70, 30), (257,), (), (0,))
    given = [torch.randn(shape, generator=make, dtype=torch.float32, device="cpu").to(dtype)
             for shape in shapes]  # fmt: skip
    params = [nn.Parameter(value) for value in given]
    optimizer = cls(params, lr=0.01, **options)
    for _ in range(4):
        for param in params:
            drawn = torch.randn(param.shape, generator=make, dtype=torch.float32, device="cpu")
            param.grad = drawn.to(dtype)
        optimizer.step()
    states = [value for param in params for value in optimizer.state[param].values()]
    return [*(param.detach() for param in params), *states]


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize(
    "changed",
    [
        {"dtype": torch.bfloat16},
        {"dtype": torch.float16},
        {"dtype": torch.float64},
        {"device": "meta"},
    ],
    ids=str,
)
def test_the_same_bits_under_any_default(
    cls: Any, changed: dict[str, Any], defaults: Callable[..., None]
) -> None:
    for options in ({"seed": 1}, {"seed": 1, "dtype": torch.bfloat16, "rounding": "stochastic"}):
        expected = trained(cls, **options)
        defaults(**changed)
        found = trained(cls, **options)
        defaults()
        for left, right in zip(found, expected, strict=True):
            assert left.dtype == right.dtype and torch.equal(left, right)


@pytest.mark.parametrize("changed", [{"dtype": torch.float64}, {"device": "meta"}], ids=str)
def test_plain_and_foreign_counters_are_settled(
    changed: dict[str, Any], defaults: Callable[..., None]
) -> None:
    defaults(**changed)
    for step in (16777215, torch.tensor(7.0, dtype=torch.float64, device="cpu")):
        param = nn.Parameter(torch.ones(5, dtype=torch.float32, device="cpu"))
        optimizer = FusedAdam([param])
        optimizer.state[param]["step"] = step
        param.grad = torch.ones_like(param)
        optimizer.step()
        assert optimizer.state[param]["step"].dtype == torch.float32
        assert optimizer.state[param]["step"].item() == step + 1


def shortened(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().resize_(tensor.nbytes - 1)
    return tensor


def damaged(case: Case, how: str) -> tuple[TensorLists, str] | None:
    """Return lists of which one buffer is wrong, and its name."""
    lists = case.lists([(300,), (40,)], steps=2.0)
    change: Callable[[Tensor], Tensor] = {
        "dtype": lambda t: t.to(torch.bfloat16),
        "size": lambda t: t.reshape(-1)[:-1],
        "strides": lambda t: t.reshape(-1).repeat_interleave(2)[::2],
        "storage": shortened,
    }[how]
    if case.reference.family.extras:
        role = case.reference.family.extras[0]
        lists.extras[role] = [change(tensor) for tensor in lists.extras[role]]
    else:
        role = "steps"
        if how == "strides":
            return None
        assert lists.steps is not None
        lists.steps = [change(tensor) for tensor in lists.steps]
    return lists, role


@pytest.mark.parametrize("rung", ["native", "reference"])
@pytest.mark.parametrize("how", ["dtype", "size", "strides", "storage"])
def test_every_written_buffer_is_checked(case: Case, how: str, rung: str) -> None:
    made = damaged(case, how)
    if made is None:
        return
    lists, role = made
    op = case.builder().load() if rung == "native" else case.reference()
    before = [tensor.clone() for tensor in lists.params]
    for call in (
        lambda: op.kernel.run(lists, case.hyper()),
        lambda: op.kernel.family.dispatch(op.kernel.key, lists, case.hyper()),
    ):
        with pytest.raises((TypeError, ValueError), match=rf"^{role}\[0\] "):
            call()
    assert all(map(torch.equal, before, lists.params))


@pytest.mark.parametrize("name", ["adam8bit", "lamb"])
def test_buffers_that_are_missing(name: str) -> None:
    case = CASES[name]
    for op in (case.builder().load(), case.reference()):
        lists = case.lists([(300,)])
        role = case.reference.family.extras[0]
        del lists.extras[role]
        with pytest.raises(ValueError, match=f"{role} is missing"):
            op.kernel.family.dispatch(op.kernel.key, lists, case.hyper())
        lists = case.lists([(300,), (7,)])
        lists.extras[role] = lists.extras[role][:1]
        with pytest.raises(ValueError, match=f"{role} has 1 tensors, but params has 2"):
            op.kernel.run(lists, case.hyper())


def test_codes_with_gaps_are_refused() -> None:
    case = CASES["adam8bit"]
    for op in (case.builder().load(), case.reference()):
        lists = case.lists([(300,)])
        lists.roles["exp_avgs"] = [torch.zeros(600, dtype=torch.uint8)[::2]]
        with pytest.raises(TypeError, match=r"exp_avgs\[0\] has strides \(2,\)"):
            op.kernel.run(lists, case.hyper())


def test_what_fits_is_still_stepped(case: Case) -> None:
    lists = case.lists([(300,), (40,)], steps=2.0)
    before = [tensor.clone() for tensor in tensors_of(lists)]
    case.builder().load().kernel.run(lists, case.hyper())
    assert not all(map(torch.equal, before, tensors_of(lists)))
