"""Memory locked against being swapped out: as much of it as the process may lock."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any, Protocol


class Locking(Protocol):
    """The interface of classes that lock memory by the system."""

    def lock(self, address: int, size: int) -> int:
        """Lock as much as is allowed, from the start, and return the number of locked bytes."""

    def unlock(self, address: int, size: int) -> None:
        """Unlock."""


class NativeLocking:
    """`Locking` by an op's library."""

    def __init__(self, library: Any) -> None:
        self._lock, self._unlock = library["accel_pin_lock"], library["accel_pin_unlock"]
        for function in (self._lock, self._unlock):
            function.argtypes = (ctypes.c_void_p, ctypes.c_int64)
            function.restype = ctypes.c_int64

    def lock(self, address: int, size: int) -> int:
        """See `Locking`."""
        return max(0, int(self._lock(address, size)))

    def unlock(self, address: int, size: int) -> None:
        """See `Locking`."""
        self._unlock(address, size)


class LibcLocking:
    """`Locking` by the C library, without a compiler."""

    def lock(self, address: int, size: int) -> int:
        """See `Locking`; the same as ``csrc/cpu/io/lock.h``."""
        function = self._function("mlock")
        if function is None:
            return 0
        if size == 0 or function(address, size) == 0:
            return size
        locked, left = 0, size // mmap.PAGESIZE
        while left > 0:
            more = left - left // 2
            if function(address + locked, more * mmap.PAGESIZE) == 0:
                locked += more * mmap.PAGESIZE
                left -= more
            else:
                left = more - 1
        return locked

    def unlock(self, address: int, size: int) -> None:
        """See `Locking`."""
        function = self._function("munlock")
        if function is not None:
            function(address, size)

    def _function(self, name: str) -> Any:
        function = getattr(ctypes.CDLL(None), name, None)
        if function is not None:
            function.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        return function


def limit() -> str:
    """Return in words how much memory this process may lock."""
    try:
        import resource
    except ImportError:
        return "an unknown size"
    allowed, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return "all memory" if allowed == resource.RLIM_INFINITY else f"{allowed} bytes"
