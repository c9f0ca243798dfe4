"""Checks of an op's arguments before anything is written; every error names the argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from accel.ops.overlap import Span, extent, find_conflict, reach

Roles = Mapping[str, Sequence[Tensor]]
"""Lists of tensors by argument name, all of one length; the first one gives shapes and devices."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
BYTES = (torch.uint8,)
_ADDRESSED = ("cpu", "cuda", "xpu")


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

    `single`: each list holds one tensor that the caller passed by itself. The roles in `codes` hold
    bytes instead of floats.
    Raises `TypeError` for anything but dense tensors of real floats, and `ValueError` for a shape
    or device other than the first list's.
    """
    count = check_lengths(roles)
    (first, leaders), *_ = roles.items()
    for index in range(count):
        place = None if single else index
        leader = leaders[index]
        for role, listed in roles.items():
            tensor = listed[index]
            name = label(role, place)
            check_kind(tensor, name, BYTES if role in codes else FLOATS)
            if role in codes and not is_dense(tensor):
                raise TypeError(f"{name} has strides {tensor.stride()}; codes must be dense.")
            check_storage(tensor, name)
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


def check_kind(tensor: Any, name: str, dtypes: Sequence[torch.dtype]) -> None:
    """Raise `TypeError` naming the tensor unless it is dense and of one of these types."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; expected a torch.Tensor.")
    if tensor.layout is not torch.strided or tensor.is_nested:
        found = "is a nested tensor" if tensor.is_nested else f"has layout {tensor.layout}"
        raise TypeError(f"{name} {found}; only dense tensors are supported.")
    if tensor.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name} has dtype {tensor.dtype}; expected one of {known}.")


def check_storage(tensor: Tensor, name: str) -> None:
    """Refuse a tensor that reaches beyond its storage, for example after a resize that freed it.

    Raises `ValueError` naming the tensor.
    """
    if lacks_memory(tensor):
        raise ValueError(
            f"{name} needs {_bytes_needed(tensor)} bytes of its storage, which has "
            f"{tensor.untyped_storage().nbytes()}: it was resized or freed. Give the tensor its "
            f"memory back before the step."
        )


def lacks_memory(tensor: Tensor) -> bool:
    """Return whether a tensor reaches beyond its storage, which its address does not show."""
    needed = _bytes_needed(tensor)
    return needed > 0 and tensor.untyped_storage().nbytes() < needed


def _bytes_needed(tensor: Tensor) -> int:
    """Return how large a tensor's storage must be, in bytes; 0 if that cannot be checked."""
    # On other devices a storage may not describe the memory behind it.
    if torch.compiler.is_compiling() or tensor.device.type not in _ADDRESSED:
        return 0
    if tensor.numel() == 0 or type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return 0
    return (int(tensor.storage_offset()) + reach(tensor)) * tensor.element_size()


def check_writable(written: Roles, *, single: bool = False) -> None:
    """Raise `ValueError` naming a written tensor of inference mode, outside of that mode."""
    if torch.is_inference_mode_enabled():
        return
    for role, listed in written.items():
        for index, tensor in enumerate(listed):
            if tensor.is_inference():
                raise ValueError(
                    f"{label(role, None if single else index)} was made in inference mode and "
                    f"cannot be updated outside of it; give a clone, or step in inference mode."
                )


def is_dense(tensor: Tensor) -> bool:
    """Return whether the elements fill one block of memory, each once, in some order."""
    if tensor.numel() == 0:
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def check_no_overlap(written: Roles, read: Roles, *, single: bool = False) -> None:
    """Refuse tensors that share an element if at least one of them is written.

    Raises `ValueError` naming both tensors, or one (expanded) tensor whose elements share memory.
    """
    conflict = find_conflict([*_spans(written, read, single)])
    if conflict is not None:
        span, owner = conflict
        raise ValueError(f"{span.name} shares memory with {owner.name}; give each its own.")


def _spans(written: Roles, read: Roles, single: bool) -> Iterator[Span]:
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
                    yield Span(start, stop, is_written, name, tensor)


def _folds(tensor: Tensor) -> bool:
    """Return whether two indices may refer to one element, because the strides do not nest."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False


def shown(value: Any) -> str:
    """Return how an error shows a value: its `repr`, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        text = f"an int of {value.bit_length()} bits"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def check_number(name: str, value: Any, allowed: Callable[[float], bool], expected: str) -> float:
    """Return the value as a float; raises `TypeError` or `ValueError` naming the argument."""
    # The check for a real number takes longer than all other checks of a step, so floats skip it.
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
        if torch.compiler.is_compiling() and isinstance(getattr(value, "size", None), int):
            # A compiler treats a NumPy scalar as an array; the op checks it when it runs.
            return torch.as_tensor(value, dtype=torch.float64, device="cpu")  # type: ignore[return-value]
        raise TypeError(f"{name} is {shown(value)}; expected a number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.nan
    if not allowed(number):
        raise ValueError(f"{name} is {shown(value)}; expected {expected}.")
    return number


def check_not_negative(name: str, value: Any) -> float:
    """Return a finite number from 0 on; raises like `check_number`."""
    return check_number(name, value, lambda x: 0.0 <= x < math.inf, "a finite number from 0 on")


def check_steps(name: str, value: Any) -> float:
    """Return a number of steps, 0 for ``None``; raises like `check_number`."""
    return check_number(
        name,
        0.0 if value is None else value,
        lambda x: 0.0 <= x < math.inf and x % 1.0 == 0.0,
        "a whole number of steps, or None",
    )


def check_seed(seed: Any) -> int:
    """Return a seed; raises `TypeError` or `ValueError` unless it is an int of 64 bits from 0."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed is {shown(seed)}; expected an int.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {shown(seed)}; expected an int from 0 to 2**64 - 1.")
    return seed
