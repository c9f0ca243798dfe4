"""`NativeWatch`: a check of thousands of tensors before a step, in one call of a library."""

from __future__ import annotations

import ctypes
import sys
import weakref
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from accel.ops import abi
from accel.ops.optimizers.prepared.watch import Seen
from accel.ops.python_api import DLTensor, Python, from_python, python_api

_P, _N, _I = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
_DTYPES = {torch.float32: (2, 32), torch.bfloat16: (4, 16), torch.float16: (2, 16),
           torch.uint8: (1, 8)}  # fmt: skip
# DLPack's device types for torch's names; other devices may have any type but these.
_KINDS: Mapping[str, tuple[int, ...]] = {"cpu": (1,), "cuda": (2, 10), "xpu": (14,)}


class Expected(ctypes.Structure):
    """``accel_expected`` of ``accel/tensors.h``."""

    _fields_ = (("slot", _P), ("numel", _N), ("dtype", ctypes.c_uint32), ("written", _I))


class WatchArgs(ctypes.Structure):
    """``accel_watch`` of ``accel/tensors.h``: arrays are addresses as integers."""

    _fields_ = (
        ("struct_size", ctypes.c_uint64),
        ("python", _P),
        *((f"num_{name}", _N) for name in ("params", "keys", "written")),
        *((name, _P) for name in ("keys", "expected", "layout_at", "layouts", "places", "devices",
                                  "written_from", "written_to", "kept")),
    )  # fmt: skip


class NativeWatch:
    """The conditions of a prepared step, which the next step may reuse while all of them hold.

    Holds no tensor between `release` and the next `take`.

    Args:
        library: exports the functions of ``accel/tensors.h``; it reads no tensor's memory, so the
            tensors may be on any device.
        keys: the keys of the states that are read.
        seen: for each parameter of the group, the tensors that its step uses: the parameter, the
            gradient and one for each key; ``None`` for a parameter without a gradient, and for
            keys that are not used.
        places: each parameter's index among the states, from `places_of`.
        written: memory that no gradient may share: separate blocks in rising order, each as its
            first byte and the byte after its last.

    Raises:
        LookupError: a tensor is of a kind that no kernel takes, or on a device unknown to DLPack.
        OSError: native code cannot read tensors of this torch or interpreter.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        keys: Sequence[str],
        seen: Sequence[Sequence[Seen | None] | None],
        places: Sequence[int],
        written: Iterable[tuple[int, int]],
    ) -> None:
        api = python_api()
        if isinstance(api, str):
            raise OSError(api)
        self._count, width = len(seen), len(keys) + 2
        expected, arrays = _described(seen, width, _Devices(api))
        blocks = [*written]
        names = [*map(sys.intern, keys)]
        arrays |= {
            "keys": array("q", map(id, names)),
            "places": array("q", places),
            "written_from": array("q", [start for start, _ in blocks]),
            "written_to": array("q", [stop for _, stop in blocks]),
            "kept": array("q", bytes(8 * self._count * width)),
        }
        self._args = WatchArgs(
            ctypes.sizeof(WatchArgs),
            ctypes.addressof(api),
            *(self._count, len(keys), len(blocks)),
            expected=ctypes.addressof(expected),
            **{name: listed.buffer_info()[0] for name, listed in arrays.items()},
        )
        self._alive = (library, api, expected, names, arrays)
        # The interpreter's lock is held, except while torch reads a negative bit; everything that
        # is used after that is kept alive.
        locked = ctypes.PyDLL(None, handle=library._handle)
        self._take, self._release = locked.accel_watch_take, locked.accel_watch_release
        self._take.restype, self._take.argtypes = _I, (_P, ctypes.py_object, ctypes.py_object)
        self._release.restype, self._release.argtypes = None, (_P,)
        weakref.finalize(self, _let_go, self._release, self._args, self._alive)

    def take(self, params: Any, states: Any) -> bool:
        """Keep the step's tensors and write their addresses into the native calls.

        ``False``, with nothing kept, if anything has changed, if a gradient shares memory with a
        written tensor or requires grad, or if a tensor has the negative bit.
        """
        if type(params) is not list or len(params) != self._count:
            return False
        if type(states) is not defaultdict and type(states) is not dict:
            return False
        status: int = self._take(ctypes.addressof(self._args), params, states)
        return status == abi.OK

    def release(self) -> None:
        """Drop the references to the tensors."""
        self._release(ctypes.addressof(self._args))


class _Devices(dict[torch.device, tuple[int, int]]):
    """DLPack's type and number of each device, read from one tensor."""

    def __init__(self, api: Python) -> None:
        read = ctypes.PYFUNCTYPE(_I, ctypes.py_object, ctypes.POINTER(DLTensor))
        self._read = read(api.read)

    def of(self, tensor: Tensor) -> tuple[int, int]:
        """Return type and number; raises `LookupError` if they do not match torch's name."""
        device = tensor.device
        if device not in self:
            read = DLTensor()
            try:
                failed = self._read(tensor, ctypes.byref(read))
            except Exception as error:
                raise LookupError(device) from error
            kinds = _KINDS.get(device.type)
            others = [kind for listed in _KINDS.values() for kind in listed]
            fits = read.device_type in kinds if kinds else read.device_type not in others
            if failed or not fits:
                raise LookupError(device)
            self[device] = (read.device_type, read.device_id)
        return self[device]


def _described(
    seen: Sequence[Sequence[Seen | None] | None], width: int, known: _Devices
) -> tuple[Any, dict[str, array[int]]]:
    """Return the expected properties of every tensor, and the layouts and devices of parameters."""
    expected = (Expected * max(1, len(seen) * width))()
    layouts, layout_at, devices = array("q"), array("q"), array("i")
    for index, entries in enumerate(seen):
        layout_at.append(len(layouts))
        if entries is None or entries[0] is None:
            devices.extend((0, 0))
            continue
        param = entries[0].tensor
        devices.extend(known.of(param))
        layouts.extend((param.ndim, *param.shape, *param.stride()))
        for column, entry in enumerate(entries):
            if entry is not None:
                expected[index * width + column] = _expected(entry, written=column != 1)
    return expected, {"layouts": layouts, "layout_at": layout_at, "devices": devices}


def _let_go(release: Any, args: WatchArgs, alive: Any) -> None:
    release(ctypes.addressof(args))


def _expected(seen: Seen, *, written: bool) -> Expected:
    code, bits = _DTYPES[seen.tensor.dtype]
    numel = seen.tensor.numel() if seen.own_layout else -1
    return Expected(seen.slot, numel, code | bits << 8 | 1 << 16, written)


def places_of(params: Sequence[Tensor], states: Any) -> list[int] | None:
    """Return each parameter's index among the states, as ``PyDict_Next`` counts them.

    A parameter without an entry gets the index 0; ``None`` if the states are not a plain dict.
    """
    if type(states) is not defaultdict and type(states) is not dict:
        return None
    outputs = (ctypes.POINTER(kind) for kind in (ctypes.c_ssize_t, _P, _P))
    step = from_python("PyDict_Next", ctypes.c_int, ctypes.py_object, *outputs)
    place, key, value = ctypes.c_ssize_t(0), _P(), _P()
    found: dict[int, int] = {}
    while True:
        before = place.value
        if not step(states, ctypes.byref(place), ctypes.byref(key), ctypes.byref(value)):
            return [found.get(id(param), 0) for param in params]
        found[key.value or 0] = before
