"""The choice of an engine: a library with io_uring or threads, or Python's own threads."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from pathlib import Path

from accel import environment
from accel.errors import OpUnavailable
from accel.ops.io.engines import MOST_THREADS, Engine, NativeEngine
from accel.ops.io.python_engine import PythonEngine

THREADS, IO_URING = 0, 1
_SETUP = 425
_NEEDED = 1 << 0 | 1 << 1 | 1 << 3
_PARAMS_BYTES, _FEATURES_AT = 120, 20
_DISABLED = Path("/proc/sys/kernel/io_uring_disabled")
# A thread of the pool has one request in flight, so this many replace one thread with a queue.
_THREADS_FOR_A_QUEUE = 4


def make_engine(library: ctypes.CDLL | None, block: int, depth: int, threads: int) -> Engine:
    """Return a new engine.

    Args:
        library: the native library, ``None`` for Python's own threads.
        block: bytes of one request.
        depth: requests in flight.
        threads: threads that share them.

    Raises:
        InvalidSetting: ``ACCEL_IO_ENGINE`` has a value that is not accepted.
        OpUnavailable: it is ``io_uring``, which cannot be used here.
    """
    ring, _ = choice()
    if library is not None and ring:
        return NativeEngine(library, block, depth, threads, IO_URING)
    threads = min(threads * min(depth, _THREADS_FOR_A_QUEUE), MOST_THREADS)
    if library is not None:
        return NativeEngine(library, block, depth, threads, THREADS)
    return PythonEngine(threads)


def choice() -> tuple[bool, str]:
    """Return whether a library uses io_uring, and why; raises as `make_engine` does."""
    asked = environment.io_engine()
    if asked == "threads":
        return False, "ACCEL_IO_ENGINE=threads is set"
    refusal = io_uring_refusal()
    if refusal and asked == "io_uring":
        raise OpUnavailable(
            f"ACCEL_IO_ENGINE=io_uring, which cannot be used here: {refusal}. "
            f"Use ACCEL_IO_ENGINE=threads or leave it unset."
        )
    if refusal:
        return False, f"io_uring cannot be used: {refusal}"
    return True, "the kernel allows it"


@functools.cache
def io_uring_refusal() -> str:
    """Return why io_uring cannot be used by this process, ``""`` if it can."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syscall"):
        return "this system is not Linux"
    params = (ctypes.c_uint8 * _PARAMS_BYTES)()
    ring = libc.syscall(ctypes.c_long(_SETUP), ctypes.c_uint(1), params)
    if ring < 0:
        return _meaning(ctypes.get_errno())
    os.close(ring)
    features = int.from_bytes(bytes(params[_FEATURES_AT : _FEATURES_AT + 4]), "little")
    return "" if features & _NEEDED == _NEEDED else "the kernel is older than 5.6"


def _meaning(number: int) -> str:
    told = f"io_uring_setup failed with {errno.errorcode.get(number, number)}"
    if number == errno.ENOSYS:
        return f"{told}: the kernel has none, or the container's sandbox hides it"
    if number == errno.ENOMEM:
        return f"{told}: the limit of locked memory (ulimit -l) is used up"
    if number != errno.EPERM:
        return told
    try:
        disabled = _DISABLED.read_text(encoding="ascii").strip()
    except OSError:
        disabled = "0"
    if disabled != "0":
        return f"{told}: kernel.io_uring_disabled is {disabled}"
    return f"{told}: a seccomp filter forbids it, as the default one of containers does"
