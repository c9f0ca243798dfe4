"""Loops over thousands of tensors that a CPU library runs: moved, overlapping, gradients."""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from accel.ops import abi
from accel.ops.threads import cpu_threads

if TYPE_CHECKING:
    from accel.ops.torch_handles import Handles, TensorApi

_P, _N, _I = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32


class HostLoops:
    """The loops of one CPU library.

    Args:
        library: a library that exports the functions of ``accel/cpu.h``.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._moved = library.accel_any_moved
        self._moved.restype, self._moved.argtypes = _I, (_P, _P, _N, _P, _I)
        self._overlap = library.accel_first_overlap
        self._overlap.restype, self._overlap.argtypes = _N, (_P, _P, _N, _P, _P, _N)
        # With the interpreter's lock held: no other thread exchanges a gradient meanwhile.
        locked = ctypes.PyDLL(None, handle=library._handle)
        self._take = locked.accel_take_grads
        self._take.restype, self._take.argtypes = _I, (_P, _P, _P, _P, _N, _P, _P, _I)
        self._let_go = locked.accel_let_go
        self._let_go.restype, self._let_go.argtypes = None, (_P, _P, _N)

    def watch(self, tensors: Sequence[Tensor], expected: array[int]) -> Watch | None:
        """Return a watch on tensors at these addresses; ``None`` where torch has no handles."""
        from accel.ops.torch_handles import address_of, handles_of

        ask = address_of()
        handles = None if ask is None else handles_of(tensors)
        return None if handles is None else Watch(self._moved, ask, handles, expected)

    def gradients(
        self, params: Sequence[Tensor], grads: Sequence[Tensor | None]
    ) -> Gradients | None:
        """Return a reader of the parameters' gradients, as long as they are like these.

        ``None`` where this torch does not tell, or for element types that no kernel takes.
        """
        from accel.ops.torch_handles import dtype_codes, handles_of, tensor_api

        api = tensor_api()
        known = {None, *dtype_codes()} if api is not None else set()
        if api is None or any((None if g is None else g.dtype) not in known for g in grads):
            return None
        handles = handles_of(params)
        if handles is None:
            return None
        codes = array("i", [0 if grad is None else dtype_codes()[grad.dtype] for grad in grads])
        return Gradients((self._take, self._let_go), api, handles, grads, codes)

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

    def __init__(self, any_moved: Any, ask: Any, handles: Handles, expected: array[int]) -> None:
        self._any_moved = any_moved
        self._ask = ask
        self._handles = handles
        self._expected = expected

    def moved(self) -> bool:
        """Return whether a tensor's memory is elsewhere than it was."""
        pointers = self._handles.pointers
        at, expected = pointers.buffer_info()[0], self._expected.buffer_info()[0]
        return bool(self._any_moved(at, expected, len(pointers), self._ask, cpu_threads()))


class Gradients:
    """Reads the gradients of many parameters at once, which Python does one by one.

    Args:
        functions: the library's `accel_take_grads` and `accel_let_go`.
        api: torch's functions.
        handles: of the parameters.
        like: gradients of the sizes that are expected; ``None`` where there is none.
        dtypes: torch's codes of their element types.
    """

    def __init__(
        self,
        functions: tuple[Any, Any],
        api: TensorApi,
        handles: Handles,
        like: Sequence[Tensor | None],
        dtypes: array[int],
    ) -> None:
        self._take_grads, self._let_go = functions
        self._api = api
        self._handles = handles
        self._numels = array("q", [-1 if grad is None else grad.numel() for grad in like])
        self._dtypes = dtypes
        self._present = [index for index, grad in enumerate(like) if grad is not None]
        self._kept = array("q", bytes(8 * len(like)))
        weakref.finalize(self, _release, self._let_go, api, self._kept)

    def take(self) -> array[int] | None:
        """Keep the gradients and return their addresses, of those that there are.

        ``None`` where one is not as it was, not dense, not contiguous, or requires grad; nothing
        is kept then.
        """
        self.release()
        addresses = array("q", self._kept)
        lists = (self._handles.pointers, self._numels, self._dtypes)
        status = self._take_grads(
            ctypes.addressof(self._api),
            *(listed.buffer_info()[0] for listed in lists),
            len(addresses),
            addresses.buffer_info()[0],
            self._kept.buffer_info()[0],
            cpu_threads(),
        )
        if status != abi.OK:
            return None
        if len(self._present) == len(addresses):
            return addresses
        return array("q", [addresses[index] for index in self._present])

    def release(self) -> None:
        """Let go of the gradients."""
        _release(self._let_go, self._api, self._kept)


def _release(let_go: Any, api: TensorApi, kept: array[int]) -> None:
    let_go(ctypes.addressof(api), kept.buffer_info()[0], len(kept))
