"""`ListReader`: checks a call's lists of thousands of tensors in one call of the library."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from accel.ops import abi
from accel.ops.python_api import python_api

_P, _N, _I, _U = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_uint64
_VERSION = sys.intern("_version")
_CPU = 1


class ReadArgs(ctypes.Structure):
    """``accel_read`` of ``accel/lists.h``: pointers are addresses as integers."""

    _fields_ = (
        ("struct_size", _U),
        *((name, _P) for name in ("python", "put", "version")),
        *((name, _N) for name in ("lists", "count")),
        *((name, _U) for name in ("written", "in_place", "detached", "versioned")),
        *((name, _N) for name in ("apart_from", "apart_to")),
        *((name, _I) for name in ("device_type", "device_id")),
    )


class Table:
    """Addresses for C, which are valid as long as this object lives.

    Attributes:
        count: number of tensors in each list.
    """

    def __init__(self, lists: int, count: int) -> None:
        self.count = count
        self._lists = lists
        self._numbers = (_N * ((lists + 1) * count + (lists * count + 1) // 2))()
        self.start = ctypes.addressof(self._numbers)

    def addresses(self, which: int) -> int:
        """Return the address of a list's array of addresses."""
        return self.start + 8 * which * self.count

    def numels(self) -> int:
        """Return the address of the array of numbers of elements, common to all lists."""
        return self.addresses(self._lists)

    def element_types(self, which: int) -> int:
        """Return the address of the array of a list's element type codes."""
        return self.addresses(self._lists + 1) + 4 * which * self.count


class ListReader:
    """Reads the lists of one op's calls on the CPU.

    Args:
        library: exports ``accel_read_lists``.
        lists: number of lists.
        written: mask of the lists that are written.
        in_place: mask of the lists whose tensors may be the ones written in their place.

    Raises:
        OSError: native code cannot read tensors of this torch or interpreter.
    """

    def __init__(self, library: ctypes.CDLL, lists: int, written: int, in_place: int) -> None:
        api = python_api()
        if isinstance(api, str):
            raise OSError(api)
        self._alive = (library, api)
        put = ctypes.cast(ctypes.pythonapi.PyList_SetItem, _P).value
        self._fixed = (ctypes.sizeof(ReadArgs), ctypes.addressof(api), put, id(_VERSION), lists)
        self._written, self._in_place = written, in_place
        # With the interpreter's lock held.
        self._read = ctypes.PyDLL(None, handle=library._handle).accel_read_lists
        objects = (ctypes.py_object, ctypes.py_object)
        self._read.restype, self._read.argtypes = _I, (_P, *objects, _P, _P)

    def read(
        self,
        lists: list[list[Tensor]],
        *,
        sources: list[Any] | None,
        grad: bool,
        inference: bool,
        apart: Tensor | None,
    ) -> Table | None:
        """Return the addresses for C; ``None`` if something is unusual or wrong.

        Args:
            lists: lists of one length that nobody else uses.
            sources: if given, the first list is filled with the gradients of these tensors.
            grad: whether autograd is on; no tensor may require grad then.
            inference: whether inference mode is on.
            apart: one more tensor that is written; contiguous.
        """
        number, count = len(lists), len(lists[0])
        written, every = self._written, (1 << number) - 1
        start = apart.data_ptr() if apart is not None else 0
        args = ReadArgs(
            *(*self._fixed, count, written, self._in_place, every if grad else 0),
            *(0 if inference else written, start, start + (apart.nbytes if start else 0)),  # type: ignore[union-attr]
            *(_CPU, 0),
        )
        table = Table(number, count)
        room = (_N * (2 * count + 6 * (number * count + 1)))()
        arrays = (table.start, ctypes.addressof(room))
        status = self._read(ctypes.addressof(args), sources, lists, *arrays)
        return table if status == abi.OK else None


def mask(names: Sequence[str], chosen: Sequence[str]) -> int:
    """Return a bit mask of the `names` that are in `chosen`."""
    return sum(1 << at for at, name in enumerate(names) if name in chosen)
