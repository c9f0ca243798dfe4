"""A native library bound for calls: version check, SIMD level, stream, errors."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch

from accel import environment
from accel.errors import AccelError, InvalidSetting, OpUnavailable, Unsupported
from accel.ops import abi

if TYPE_CHECKING:
    from accel.jit import Library
    from accel.ops.base import Implementation

Call = Callable[[ctypes.Structure, torch.device], None]
"""Runs an op: its argument struct, and the device of its tensors."""

NATIVE_RUNGS = ("prebuilt", "jit")
# Attributes of torch's streams that have the address of the driver's stream, for all devices.
_STREAM_HANDLES = ("cuda_stream", "sycl_queue", "native_handle")


def check_interface(library: Library, *functions: str) -> None:
    """Check a library's functions and its ABI version; raises `OpUnavailable` naming it."""
    for needed in ("accel_abi_version", *functions):
        if not hasattr(library.handle, needed):
            raise OpUnavailable(
                f"{library.path} has no function {needed!r}, so it is not a library of this op. "
                f"Rebuild it: `accel build`."
            )
    version = library.handle.accel_abi_version()
    if version != abi.ABI_VERSION:
        raise OpUnavailable(
            f"{library.path} has C interface version {version}, but this accel needs version "
            f"{abi.ABI_VERSION}. Rebuild it: `accel build`."
        )


class NativeLibrary:
    """The functions of one loaded library.

    Args:
        library: the loaded artifact.
        symbol: the op's entry point, ``int32_t symbol(const args *, void *stream)``.

    Attributes:
        path: the library's file.

    Raises:
        OpUnavailable: the library has another ABI version, or none.
        InvalidSetting: ``ACCEL_CPU_TARGET`` names a level that this processor or library does not
            have.
    """

    def __init__(self, library: Library, symbol: str) -> None:
        self.path = library.path
        handle = library.handle
        check_interface(library, "accel_status_text", symbol)
        handle.accel_status_text.restype = ctypes.c_char_p
        self._handle = handle
        self._symbol = symbol
        self._call = getattr(handle, symbol)
        self._call.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self._call.restype = ctypes.c_int32
        wanted = environment.cpu_target()
        if wanted and hasattr(handle, "accel_simd_force"):
            self.force_simd(wanted)

    @property
    def handle(self) -> ctypes.CDLL:
        """The library."""
        return self._handle

    @property
    def watcher(self) -> ctypes.CDLL | None:
        """The library, if it can check a call's tensors itself."""
        return self._handle if hasattr(self._handle, "accel_watch_take") else None

    def __call__(self, args: ctypes.Structure, device: torch.device) -> None:
        """Run the op on the device's current stream; raises `AccelError` on a refusal."""
        with current_device(device):
            status = self._call(ctypes.addressof(args), stream_of(device))
        if status != abi.OK:
            raise self.refusal(status)

    def function(self, argtypes: Sequence[Any]) -> Any:
        """Return the entry point as a function of these argument types that returns a status.

        Each call returns a new object, so other bindings of the same symbol are not affected.
        """
        function = self._handle[self._symbol]
        function.argtypes = tuple(argtypes)
        function.restype = ctypes.c_int32
        return function

    def refusal(self, status: int) -> AccelError:
        """Return the error for a status other than ``OK``."""
        if status < 0:
            text = os.strerror(-status)
        else:
            text = self._handle.accel_status_text(status).decode()
        return AccelError(f"{self._symbol} in {self.path} returned {status}: {text}.")

    def simd_levels(self) -> tuple[str, ...]:
        """Return the SIMD levels that this library has and this processor can run, lowest first."""
        bits = self._handle.accel_simd_available()
        return tuple(name for code, name in enumerate(abi.SIMD_LEVELS) if bits >> code & 1)

    def simd_level(self) -> str:
        """Return the SIMD level in use."""
        code: int = self._handle.accel_simd_level()
        return abi.SIMD_LEVELS[code]

    def force_simd(self, level: str) -> None:
        """Use this SIMD level from now on; raises `InvalidSetting` if the library lacks it."""
        levels = self.simd_levels()
        if level not in levels:
            raise InvalidSetting(
                f"ACCEL_CPU_TARGET is {level!r}; this processor and library have "
                f"{', '.join(levels)}."
            )
        self._handle.accel_simd_force(abi.SIMD_LEVELS.index(level))


def bind(implementation: Implementation, symbol: str) -> Any:
    """Return an entry point of an implementation, checked; raises `OpUnavailable`."""
    if implementation.rung in NATIVE_RUNGS:
        return NativeLibrary(cast("Library", implementation), symbol)
    return implementation.bind(symbol)


def current_device(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which the device is current, since kernels launch on the current one."""
    if device.type == "cpu":
        return nullcontext()
    module: Any = torch.get_device_module(device)
    return module.device(device)  # type: ignore[no-any-return]


def stream_of(device: torch.device) -> int | None:
    """Return the handle of the device's current stream; ``None`` on the CPU."""
    if device.type == "cpu":
        return None
    module: Any = torch.get_device_module(device)
    stream = module.current_stream(device)
    for name in _STREAM_HANDLES:
        if hasattr(stream, name):
            return int(getattr(stream, name))
    raise Unsupported(
        f"{device}: its stream, a {type(stream).__qualname__}, has none of "
        f"{', '.join(_STREAM_HANDLES)}, and a native op needs its address. Set ACCEL_OPS=reference."
    )
