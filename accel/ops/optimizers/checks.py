"""Checks of an optimizer's tensors and numbers, in addition to those of every op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from accel.ops.checks import (
    Roles,
    check_kind,
    check_lengths,
    check_number,
    check_storage,
    label,
    shown,
)
from accel.record import Record


class Extra(Record):
    """A kind of tensor, one per parameter, that a step writes beside full-size ones.

    Attributes:
        dtype: its element type.
        elements: returns its number of elements from the parameter's.
        optional: whether a call may leave it out.
    """

    dtype: torch.dtype
    elements: Callable[[int], int]
    optional: bool = False


STEPS = Extra(torch.float32, lambda _: 1)
"""A counter of steps."""


def check_states(roles: Roles, states: Sequence[str], *, single: bool = False) -> None:
    """Check element types: a tensor's states all have one, and float64 is not mixed with others.

    Raises `TypeError` naming the tensor.
    """
    (first, leaders), *_ = roles.items()
    for index, leader in enumerate(leaders):
        place = None if single else index
        expected = roles[states[0]][index].dtype
        for role in roles:
            dtype = roles[role][index].dtype
            if role in states and dtype != expected:
                raise TypeError(
                    f"{label(role, place)} is {dtype}, but {label(states[0], place)} is "
                    f"{expected}; all states of a tensor must have one dtype."
                )
            if (dtype == torch.float64) != (leader.dtype == torch.float64):
                raise TypeError(
                    f"{label(role, place)} is {dtype}, but {label(first, place)} is "
                    f"{leader.dtype}; float64 cannot be mixed with other types."
                )


def check_extras(
    params: Sequence[Tensor], extras: Roles, kinds: Mapping[str, Extra], *, single: bool = False
) -> None:
    """Check written tensors of other shapes: counters, norms, ratios, scales.

    `kinds` has the op's kinds, each of which must be present unless it is optional.
    Raises `TypeError` for a wrong element type or layout, and `ValueError` for a wrong number of
    elements, device or length, or a missing list, each named.
    """
    for role, kind in kinds.items():
        if role not in extras and not kind.optional:
            raise ValueError(f"{role} is missing; give one tensor for each parameter.")
    if extras:
        check_lengths({"params": params, **extras})
    for role, listed in extras.items():
        for index, (param, tensor) in enumerate(zip(params, listed, strict=True)):
            kind = STEPS if role == "steps" else kinds[role]
            _check_extra(param, tensor, kind, label(role, None if single else index))


def _check_extra(param: Tensor, tensor: Tensor, kind: Extra, name: str) -> None:
    check_kind(tensor, name, (kind.dtype,))
    if tensor.device != param.device:
        raise ValueError(f"{name} is on {tensor.device}, but its parameter is on {param.device}.")
    if not tensor.is_contiguous():
        raise TypeError(f"{name} has strides {tensor.stride()}; expected contiguous memory.")
    if tensor.numel() != kind.elements(param.numel()):
        raise ValueError(
            f"{name} has {tensor.numel()} elements; its parameter of {param.numel()} needs "
            f"{kind.elements(param.numel())}."
        )
    check_storage(tensor, name)


def check_gradients(role: str, grads: Sequence[Tensor], *, single: bool = False) -> None:
    """Raise `ValueError` naming a gradient that requires grad."""
    for index, grad in enumerate(grads):
        if grad.requires_grad:
            raise ValueError(
                f"{label(role, None if single else index)} requires grad; an optimizer step is "
                f"not differentiable: detach it, or call backward without create_graph."
            )


def check_beta(name: str, value: Any) -> float:
    """Return a decay rate in [0, 1); raises like `check_number`."""
    return check_number(name, value, lambda x: 0.0 <= x < 1.0, "a number in [0, 1)")


def check_step(step: Any) -> int:
    """Return a step's number; raises `TypeError` or `ValueError` unless it is an int from 1.

    Kernels compute powers of the decay rates in double, so larger steps would not be exact.
    """
    if isinstance(step, bool) or not isinstance(step, Integral):
        raise TypeError(f"step is {shown(step)}; expected an int.")
    if not 1 <= int(step) <= 2**53:
        raise ValueError(f"step is {shown(step)}; expected a number from 1 to 2**53.")
    return int(step)
