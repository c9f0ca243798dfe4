"""Checks on an op's arguments; every error names the argument, and nothing has been written."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from numbers import Real
from operator import is_
from typing import Any

import torch
from torch import Tensor

Roles = Mapping[str, Sequence[Tensor]]
"""Lists of tensors by argument name, all of one length; the first one gives shapes and devices."""

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_BYTES = (torch.uint8,)


def label(role: str, index: int | None) -> str:
    """Return how an error names a tensor: ``"grads[3]"``, or ``"grads"`` for a lone tensor."""
    return role if index is None else f"{role}[{index}]"


def check_lengths(roles: Roles) -> int:
    """Return the common length; raises `ValueError` naming the list that differs."""
    (first, tensors), *others = roles.items()
    for role, listed in others:
        if len(listed) != len(tensors):
            raise ValueError(
                f"{role} has {len(listed)} tensors, but {first} has {len(tensors)}; "
                f"give one for each."
            )
    return len(tensors)


def check_tensors(roles: Roles, *, single: bool = False, codes: Collection[str] = ()) -> None:
    """Check kind, layout, device and shape of every tensor.

    `single` says that each list holds one tensor that the caller gave by itself; the roles in
    `codes` hold bytes instead of floats.
    Raises `TypeError` for what is no dense tensor of real floats, `ValueError` for a shape or
    device other than the first list's.
    """
    count = check_lengths(roles)
    (first, leaders), *_ = roles.items()
    for index in range(count):
        place = None if single else index
        leader = leaders[index]
        for role, listed in roles.items():
            tensor = listed[index]
            name = label(role, place)
            _check_kind(tensor, name, _BYTES if role in codes else _FLOATS)
            if tensor.device != leader.device:
                raise ValueError(
                    f"{name} is on {tensor.device}, but {label(first, place)} is on "
                    f"{leader.device}; move one of them."
                )
            if tensor.shape != leader.shape:
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}, but {label(first, place)} has "
                    f"{tuple(leader.shape)}."
                )


def _check_kind(tensor: Any, name: str, dtypes: Sequence[torch.dtype]) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; expected a torch.Tensor.")
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name} has layout {tensor.layout}; only dense tensors are supported.")
    if tensor.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name} has dtype {tensor.dtype}; expected one of {known}.")


def check_states(roles: Roles, states: Sequence[str], *, single: bool = False) -> None:
    """Check element types: all states of a tensor alike, float64 only together with float64.

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
                    f"{expected}; all states of a tensor have one dtype."
                )
            if (dtype == torch.float64) != (leader.dtype == torch.float64):
                raise TypeError(
                    f"{label(role, place)} is {dtype}, but {label(first, place)} is "
                    f"{leader.dtype}; float64 goes with float64 only."
                )


def check_gradients(role: str, grads: Sequence[Tensor], *, single: bool = False) -> None:
    """Refuse gradients that autograd still follows: raises `ValueError` naming the tensor."""
    for index, grad in enumerate(grads):
        if grad.requires_grad:
            raise ValueError(
                f"{label(role, None if single else index)} requires grad; an optimizer step is "
                f"not differentiable: detach it, or call backward without create_graph."
            )


def is_dense(tensor: Tensor) -> bool:
    """Return whether the elements fill one block of memory, each once, in some order."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def check_no_overlap(written: Roles, read: Roles, *, single: bool = False) -> None:
    """Refuse tensors that share memory where at least one of them is written.

    Raises `ValueError` naming both tensors, or one whose own elements share memory (expanded).
    """
    spans = sorted(_spans(written, read, single))
    end, owner, owner_written = -1, "", False
    for start, stop, is_written, name in spans:
        if start < end and (is_written or owner_written):
            raise ValueError(f"{name} shares memory with {owner}; give each its own.")
        if stop > end:
            end, owner, owner_written = stop, name, is_written


def _spans(written: Roles, read: Roles, single: bool) -> Iterator[tuple[int, int, bool, str]]:
    for is_written, roles in ((True, written), (False, read)):
        for role, listed in roles.items():
            for index, tensor in enumerate(listed):
                name = label(role, None if single else index)
                if is_written and not tensor.is_contiguous() and _folds(tensor):
                    raise ValueError(
                        f"{name} has elements that share memory (strides {tensor.stride()}); "
                        f"give it a clone."
                    )
                start, stop = extent(tensor)
                if start < stop:
                    yield start, stop, is_written, name


def extent(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses of a tensor's first byte and of the one after its last.

    Both are 0 where it has no elements or no memory of its own.
    """
    start = tensor.data_ptr()
    if start == 0 or tensor.numel() == 0:
        return (0, 0)
    if tensor.is_contiguous():
        return (start, start + tensor.nbytes)
    reach = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return (start, start + (reach + 1) * tensor.element_size())


def _folds(tensor: Tensor) -> bool:
    """Return whether two indices may name one element: strides that do not nest."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False


def check_number(name: str, value: Any, allowed: Callable[[float], bool], expected: str) -> float:
    """Return the value as a float; raises `TypeError` or `ValueError` naming the argument."""
    # Asking whether a float is a real number takes longer than the rest of a step's checks.
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
        if torch.compiler.is_compiling() and isinstance(getattr(value, "size", None), int):
            # A compiler takes a scalar of NumPy's for an array; the op judges it when it runs.
            return torch.as_tensor(value)  # type: ignore[return-value]
        raise TypeError(f"{name} is {value!r}; expected a number.")
    number = float(value)
    if not allowed(number):
        raise ValueError(f"{name} is {value!r}; expected {expected}.")
    return number


def check_not_negative(name: str, value: Any) -> float:
    """Return a number from 0 on, finite; raises like `check_number`."""
    return check_number(name, value, lambda x: 0.0 <= x < math.inf, "a finite number from 0 on")


def check_beta(name: str, value: Any) -> float:
    """Return a decay rate in [0, 1); raises like `check_number`."""
    return check_number(name, value, lambda x: 0.0 <= x < 1.0, "a number in [0, 1)")


def same_objects(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Return whether both hold the same objects in the same order."""
    return len(left) == len(right) and all(map(is_, left, right))
