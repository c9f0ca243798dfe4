"""Tensors as the memory of transfers: checks, and copies of tensors that are not contiguous."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from accel.ops.checks import check_no_overlap, check_storage, check_writable, shown
from accel.ops.frame.tensors import has_own_dispatch

_COMPARED = 1 << 20


class Buffer:
    """The memory of one transfer; it and the caller's tensor live as long as this.

    Args:
        tensor: the caller's tensor.
        write: whether the tensor is written to a file; else the file is read into it.

    Attributes:
        address: address of the bytes.
        length: number of bytes.

    Raises:
        TypeError: this kind of tensor has no such memory.
        ValueError: it is on a device, requires a gradient, or its elements share memory.
    """

    def __init__(self, tensor: Any, *, write: bool) -> None:
        _check(tensor, write)
        self._tensor: Tensor = tensor
        self._write = write
        self._memory: Tensor
        if tensor.is_contiguous() and not tensor.is_neg() and not tensor.is_conj():
            self._memory = tensor
        elif write:
            self._memory = tensor.resolve_conj().resolve_neg().contiguous()
        else:
            self._memory = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        self.address: int = self._memory.data_ptr()
        self.length: int = self._memory.nbytes

    def finish(self) -> None:
        """Copy the data that was read to the tensor's elements."""
        if self._write:
            return
        if self._memory is not self._tensor:
            self._tensor.copy_(self._memory)
        self.mark()

    def first_difference(self, path: bytes, offset: int) -> int | None:
        """Return the first byte of the file that differs from the memory, or ``None``."""
        with open(path, "rb") as file:  # noqa: PTH123 - a path of bytes need not be text
            file.seek(offset)
            for at in range(0, self.length, _COMPARED):
                size = min(_COMPARED, self.length - at)
                if file.read(size) != ctypes.string_at(self.address + at, size):
                    return offset + at
        return None

    def mark(self) -> None:
        """Tell autograd that the tensor, which it may have saved, changes."""
        if not self._write and not self._tensor.is_inference():
            increment_version(self._tensor)


def _check(tensor: Any, write: bool) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"buffer is a {type(tensor).__name__}; expected a torch.Tensor.")
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        raise TypeError(f"buffer has layout {tensor.layout}; only dense tensors are supported.")
    if tensor.device.type != "cpu":
        raise ValueError(
            f"buffer is on {tensor.device}; transfers need memory of the host: pass buffer.cpu(), "
            f"or use a pinned tensor and copy."
        )
    if has_own_dispatch(tensor):
        raise TypeError(
            f"buffer is a {type(tensor).__qualname__}, a class that defines operations itself; "
            f"pass a plain tensor."
        )
    if tensor.requires_grad:
        raise ValueError(
            "buffer requires a gradient, which autograd could not follow through a file; pass "
            "buffer.detach()."
        )
    check_storage(tensor, "buffer")
    if write:
        return
    if tensor.is_inference():
        check_writable({"buffer": [tensor]}, single=True)
    if not tensor.is_contiguous():
        check_no_overlap({"buffer": [tensor]}, {}, single=True)


def check_path(value: Any, name: str = "filename") -> bytes:
    """Return a path as bytes for the system; raises `TypeError` or `ValueError` naming it."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise TypeError(f"{name} is {shown(value)}; expected a path.")
    path = os.fsencode(value)
    if not path or b"\0" in path:
        raise ValueError(f"{name} is {shown(value)}; expected a path, without null characters.")
    return path


def check_int(name: str, value: Any, lowest: int, highest: int) -> int:
    """Return a whole number; raises `TypeError` or `ValueError` naming it."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is {shown(value)}; expected a whole number.")
    number = int(value.__index__())
    if not lowest <= number <= highest:
        raise ValueError(f"{name} is {number}; expected a number from {lowest} to {highest}.")
    return number
