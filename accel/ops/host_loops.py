"""Loops over thousands of tensors that a CPU library runs: has one moved, do two overlap."""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_P, _N = ctypes.c_void_p, ctypes.c_int64
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = _P
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)


@cache
def _torch_functions() -> tuple[Any, Any, Any] | None:
    """Return torch's functions that make, ask and free a tensor's handle; ``None`` without them.

    The last two belong to torch's stable C interface, which libraries compiled ahead of time use.
    """
    try:
        make = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        free = library.aoti_torch_delete_tensor_object
        free.argtypes = (_P,)
        return make, ctypes.cast(library.aoti_torch_get_data_ptr, _P), free
    except (AttributeError, OSError):
        return None


class HostLoops:
    """The loops of one CPU library.

    Args:
        library: a library that exports `accel_first_moved` and `accel_first_overlap`.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._moved = library.accel_first_moved
        self._moved.restype, self._moved.argtypes = _N, (_P, _P, _N, _P)
        self._overlap = library.accel_first_overlap
        self._overlap.restype, self._overlap.argtypes = _N, (_P, _P, _N, _P, _P, _N)

    def watch(self, tensors: Sequence[Tensor], expected: array[int]) -> Watch | None:
        """Return a watch on tensors at these addresses; ``None`` where torch has no handles."""
        functions = _torch_functions()
        return None if functions is None else Watch(self._moved, functions, tensors, expected)

    def overlap(
        self, starts: array[int], stops: array[int], begins: array[int], sizes: array[int]
    ) -> bool:
        """Return whether a block of `sizes` bytes at `begins` meets one from `starts` to `stops`.

        The latter rise and share nothing with each other.
        """
        found = self._overlap(
            starts.buffer_info()[0],
            stops.buffer_info()[0],
            len(starts),
            begins.buffer_info()[0],
            sizes.buffer_info()[0],
            len(begins),
        )
        return bool(found >= 0)


class Watch:
    """torch's handles of tensors, and where the tensors were; both are kept."""

    def __init__(
        self, first_moved: Any, functions: Any, tensors: Sequence[Tensor], expected: array[int]
    ) -> None:
        make, self._ask, free = functions
        self._first_moved = first_moved
        self._expected = expected
        pointers = [_capsule_pointer(capsule, None) for capsule in make(list(tensors))]
        self._handles = array("q", pointers)
        weakref.finalize(self, _free, free, pointers)

    def moved(self) -> bool:
        """Return whether a tensor's memory is elsewhere than it was."""
        at, expected = self._handles.buffer_info()[0], self._expected.buffer_info()[0]
        return bool(self._first_moved(at, expected, len(self._handles), self._ask) >= 0)


def _free(free: Any, pointers: list[int]) -> None:
    for pointer in pointers:
        free(pointer)
