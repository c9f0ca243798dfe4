"""What a CPU library does for thousands of tensors at once: takes a step's gradients."""

from __future__ import annotations

import ctypes
import sys
import weakref
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from accel.ops import abi
from accel.ops.threads import cpu_threads

if TYPE_CHECKING:
    from accel.ops.table import PointerTable
    from accel.ops.torch_handles import TensorApi

_P, _N, _I = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32


class SnapshotArgs(ctypes.Structure):
    """``accel_snapshot`` of ``accel/cpu.h``; functions and arrays are addresses as integers."""

    _fields_ = (
        ("struct_size", ctypes.c_uint64),
        *((name, _P) for name in ("api", "next_entry", "item_of")),
        *((f"num_{name}", _N) for name in ("dictionaries", "values", "fixed", "params", "written")),
        *((name, _P) for name in ("dictionaries", "values", "fixed", "fixed_at", "params",
                                  "handles", "numels", "sizes", "dtypes", "slots", "kept",
                                  "written_from", "written_to")),
    )  # fmt: skip


class HostLoops:
    """The loops of one CPU library.

    Args:
        library: a library that exports the functions of ``accel/cpu.h``.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        # With the interpreter's lock held: no other thread exchanges a gradient meanwhile.
        locked = ctypes.PyDLL(None, handle=library._handle)
        self.take_grads = locked.accel_take_grads
        self.take_grads.restype, self.take_grads.argtypes = _I, (_P, _P, _I)
        self.let_go = locked.accel_let_go
        self.let_go.restype, self.let_go.argtypes = None, (_P, _P, _N)

    def snapshot(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor | None],
        states: Sequence[Mapping[str, Any]],
        tables: Sequence[tuple[PointerTable, Sequence[int]]],
        written: Iterable[tuple[int, int]],
    ) -> Snapshot | None:
        """Return what takes the gradients of later steps, as long as all is as it is now.

        Args:
            params: the parameters.
            grads: their gradients, ``None`` where there is none.
            states: dictionaries that are to hold what they hold.
            tables: whose tensors are to stay where they are, each with the indices of its
                parameters: there the addresses of gradients are written.
            written: memory that no gradient may share: blocks apart from each other, each its first
                byte and the one after its last.

        Returns:
            ``None`` where this torch does not tell of gradients natively, where an interpreter has
            no lock, or for element types that no kernel takes.
        """
        from accel.ops.torch_handles import dtype_codes, tensor_api

        api = tensor_api()
        locked: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
        if api is None or not locked() or not all(type(state) is dict for state in states):
            return None
        if any(grad is not None and grad.dtype not in dtype_codes() for grad in grads):
            return None
        try:
            return Snapshot(self, api, params, grads, states, tables, sorted(written))
        except (AttributeError, OSError):
            return None


class Snapshot:
    """What a step was prepared for; all of it is kept alive.

    Arguments are those of `HostLoops.snapshot`, with `written` in rising order.

    Raises:
        AttributeError, OSError: this torch gives out no handles.
    """

    def __init__(
        self,
        loops: HostLoops,
        api: TensorApi,
        params: Sequence[Tensor],
        grads: Sequence[Tensor | None],
        states: Sequence[Mapping[str, Any]],
        tables: Sequence[tuple[PointerTable, Sequence[int]]],
        written: Sequence[tuple[int, int]],
    ) -> None:
        from accel.ops.torch_handles import Handles, dtype_codes

        self._count = len(params)
        values = [value for state in states for value in state.values()]
        fixed = [pair for table, _ in tables for pair in table.fixed()]
        slots = array("q", bytes(8 * self._count))
        for table, indices in tables:
            for index, slot in zip(indices, table.slots("grads"), strict=True):
                slots[index] = slot
        self._handles = Handles(params), Handles([tensor for tensor, _ in fixed])
        self._kept = array("q", bytes(8 * self._count))
        self._arrays = {
            "dictionaries": array("q", map(id, states)),
            "values": array("q", map(id, values)),
            "fixed": self._handles[1].pointers,
            "fixed_at": array("q", [address for _, address in fixed]),
            "params": array("q", map(id, params)),
            "handles": self._handles[0].pointers,
            "numels": array("q", [-1 if grad is None else grad.numel() for grad in grads]),
            "sizes": array("q", [0 if grad is None else grad.nbytes for grad in grads]),
            "dtypes": array(
                "i", [0 if grad is None else dtype_codes()[grad.dtype] for grad in grads]
            ),
            "slots": slots,
            "kept": self._kept,
            "written_from": array("q", [start for start, _ in written]),
            "written_to": array("q", [stop for _, stop in written]),
        }
        self._alive = (loops, api, [*params], [*states], values, [*tables])
        self._args = SnapshotArgs(
            ctypes.sizeof(SnapshotArgs),
            ctypes.addressof(api),
            *(ctypes.cast(function, _P).value for function in
              (ctypes.pythonapi.PyDict_Next, ctypes.pythonapi.PyList_GetItem)),
            *(len(listed) for listed in (states, values, fixed, params, written)),
            **{name: listed.buffer_info()[0] for name, listed in self._arrays.items()},
        )  # fmt: skip
        self._take_grads = loops.take_grads
        self._at = ctypes.addressof(self._args)
        self._let_go = (loops.let_go, ctypes.addressof(api), self._kept)
        weakref.finalize(self, _release, *self._let_go)

    def take(self, params: list[Tensor]) -> bool:
        """Keep the gradients and write their addresses into the tables.

        ``False``, with nothing kept, where anything is not as it was, and where a gradient is
        strided, shares memory with what a step writes, or requires grad.
        """
        if type(params) is not list or len(params) != self._count:
            return False
        status: int = self._take_grads(self._at, id(params), cpu_threads())
        return status == abi.OK

    def release(self) -> None:
        """Let go of the gradients."""
        _release(*self._let_go)


def _release(let_go: Any, api: int, kept: array[int]) -> None:
    let_go(api, kept.buffer_info()[0], len(kept))
