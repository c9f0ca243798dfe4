"""Shared parts of optimizers' specs: shapes, dtypes, tensors, and calls to be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from accel.testing.spec import BadCall, Case, Lists

_Shapes = tuple[tuple[tuple[int, ...], ...], ...]
_LISTS: _Shapes = (
    ((7, 5), (), (1,), (0,), (33,)),
    ((1025,),),
    ((0,),),
    ((3, 1, 17), (64, 64)),
)
_SINGLE: _Shapes = (((1025,),), ((7, 5),), ((),), ((0,),), ((3, 1, 17),))
_DTYPES = ("float32", "bfloat16", "float16")
_FLOAT32_EPS = torch.finfo(torch.float32).eps


def step_cases(
    modes: Sequence[Mapping[str, Any]],
    numbers: Sequence[Mapping[str, Any]],
    states: Sequence[str],
    *,
    single: bool = False,
) -> Iterable[dict[str, Any]]:
    """Return every shape with every dtype and mode, `numbers` and the states' dtype in turn.

    Args:
        modes: further entries of a case.
        numbers: values of the op's numbers.
        states: names of the lists of states.
        single: whether a case has one tensor only.
    """
    shapes_of_cases = _SINGLE if single else _LISTS
    for turn, (shapes, dtype, mode) in enumerate(product(shapes_of_cases, _DTYPES, modes)):
        kept = "float32" if turn % 4 == 1 else dtype
        dtypes = {"params": dtype, "grads": dtype} | dict.fromkeys(states, kept)
        # Shifted by one each round, so that no dtype meets the same numbers only.
        chosen = numbers[(turn + turn // len(numbers)) % len(numbers)]
        yield {"shapes": shapes, "dtypes": dtypes, "seed": turn, **mode, **chosen}


def normal(shape: tuple[int, ...], size: float, generator: torch.Generator) -> Tensor:
    """Return normally distributed float64 numbers of that size."""
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu") * size


def step_tensors(case: Case, generator: torch.Generator) -> Lists:
    """Return parameters and gradients of ordinary sizes."""
    return {
        "params": [normal(shape, 1.0, generator) for shape in case["shapes"]],
        "grads": [normal(shape, 0.5, generator) for shape in case["shapes"]],
    }


def state_factor(case: Case, name: str, state: str) -> float:
    """Return how much coarser a state's rounding is than that of `name`, at least 1."""
    dtypes = (case["dtypes"].get(one, "float32") for one in (name, state))
    kept, states = (torch.finfo(getattr(torch, dtype)).eps for dtype in dtypes)
    return float(max(1.0, states / kept))


def undecided(total: Tensor, size: Tensor) -> Tensor:
    """Return a mask of the sums `total`, of terms of `size`, whose sign float32 cannot decide."""
    return total.abs() <= 8 * _FLOAT32_EPS * size


def set_number(name: str, value: Any) -> Callable[[dict[str, Any], Lists], None]:
    """Return a change that gives the argument `name` another value."""

    def change(case: dict[str, Any], tensors: Lists) -> None:
        case[name] = value

    return change


def same_memory(name: str, other: str) -> Callable[[dict[str, Any], Lists], None]:
    """Return a change after which the first tensors of two lists are one."""

    def change(case: dict[str, Any], tensors: Lists) -> None:
        tensors[name][0] = tensors[other][0]

    return change


def whole_numbers(name: str) -> Callable[[dict[str, Any], Lists], None]:
    """Return a change after which the first tensor of a list holds integers."""

    def change(case: dict[str, Any], tensors: Lists) -> None:
        tensors[name][0] = tensors[name][0].long()

    return change


def _other_shape(case: dict[str, Any], tensors: Lists) -> None:
    tensors["grads"][0] = tensors["grads"][0].reshape(-1)[:-1].clone()


BAD_STEPS = (
    BadCall("a negative lr", "lr", set_number("lr", -1.0)),
    BadCall("a NaN weight decay", "weight_decay", set_number("weight_decay", float("nan"))),
    BadCall("step 0", "step", set_number("step", 0)),
    BadCall("a gradient of another shape", "grad", _other_shape),
)
