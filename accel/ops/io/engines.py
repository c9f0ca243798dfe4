"""The engines that run transfers: a library with io_uring or threads, or Python's own threads."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from pathlib import Path
from typing import ClassVar, Protocol

from accel import environment
from accel.errors import OpUnavailable
from accel.ops.frame.handle import Handle

WRITE = 1
BUFFERED = 2
_THREADS, _IO_URING = 0, 1
_SETUP = 425
_NEEDED = 1 << 0 | 1 << 1 | 1 << 3
_PARAMS_BYTES, _FEATURES_AT = 120, 20
_DISABLED = Path("/proc/sys/kernel/io_uring_disabled")
# Where each thread has one request in flight, so many take the place of one with a queue.
_THREADS_FOR_A_QUEUE = 4
MOST_THREADS = 1024


class Result(ctypes.Structure):
    """How a transfer ended: ``accel_io_result``.

    Attributes:
        ticket: the number that `Engine.submit` gave.
        error: an errno, or 0.
        offset: with an error: where in the file the failing piece begins.
        length: its bytes.
        done: bytes transferred.
        direct: those of them that bypassed the page cache.
    """

    _fields_: ClassVar = [
        ("ticket", ctypes.c_int64),
        ("error", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("done", ctypes.c_int64),
        ("direct", ctypes.c_int64),
    ]
    ticket: int
    error: int
    offset: int
    length: int
    done: int
    direct: int


class Engine(Protocol):
    """What runs transfers; each is known by its ticket, a number from 1 on.

    The memory at an address must stay until its transfer has ended.
    """

    def submit(
        self, path: bytes | None, fd: int, address: int, offset: int, length: int, flags: int
    ) -> int:
        """Start a transfer and return its ticket; raises `OSError` if it cannot begin."""

    def run(
        self, path: bytes | None, fd: int, address: int, offset: int, length: int, flags: int
    ) -> Result:
        """Do a transfer in this thread; raises `OSError` if it cannot begin."""

    def wait(self, ticket: int, milliseconds: int) -> int:
        """Wait so long at most, for one or, with 0, for all; return how many have not ended."""

    def collect(self, ticket: int) -> list[Result]:
        """Return the results, each once, of those that have ended: of one, or of all with 0."""

    def cancel(self, ticket: int) -> None:
        """Start no more of a transfer; what is in flight still ends."""

    def rings(self) -> int:
        """Return how many threads have an io_uring."""

    def close(self) -> None:
        """Give threads back."""


class NativeEngine(Handle):
    """The engine of the library."""

    prefix = "accel_io"
    functions: ClassVar = {
        "create": ("int", "int", "int", "int"),
        "submit": ("str", "int", "bytes", "int", "int", "int"),
        "run": ("str", "int", "bytes", "int", "int", "int", "bytes"),
        "wait": ("int", "int"),
        "collect": ("int", "bytes", "int"),
        "cancel": ("int",),
        "rings": (),
    }

    def submit(
        self, path: bytes | None, fd: int, address: int, offset: int, length: int, flags: int
    ) -> int:
        """See `Engine`."""
        return self.call("submit", path, fd, address, offset, length, flags)

    def run(
        self, path: bytes | None, fd: int, address: int, offset: int, length: int, flags: int
    ) -> Result:
        """See `Engine`."""
        result = Result()
        place = ctypes.addressof(result)
        self.call("run", path, fd, address, offset, length, flags, place)
        return result

    def wait(self, ticket: int, milliseconds: int) -> int:
        """See `Engine`."""
        return self.call("wait", ticket, milliseconds)

    def collect(self, ticket: int) -> list[Result]:
        """See `Engine`."""
        found: list[Result] = []
        room = (Result * 64)()
        while count := self.call("collect", ticket, ctypes.addressof(room), len(room)):
            found += [Result.from_buffer_copy(room[at]) for at in range(count)]
        return found

    def cancel(self, ticket: int) -> None:
        """See `Engine`."""
        self.call("cancel", ticket)

    def rings(self) -> int:
        """See `Engine`."""
        return self.call("rings")


def make_engine(library: ctypes.CDLL | None, block: int, depth: int, threads: int) -> Engine:
    """Return a new engine.

    Args:
        library: the native library, ``None`` for Python's own threads.
        block: bytes of one request.
        depth: requests in flight.
        threads: threads that share them.

    Raises:
        InvalidSetting: ``ACCEL_IO_ENGINE`` has a value that is not accepted.
        OpUnavailable: it asks for io_uring, which cannot be used here.
    """
    ring, _ = choice()
    if library is not None and ring:
        return NativeEngine(library, block, depth, threads, _IO_URING)
    threads = min(threads * min(depth, _THREADS_FOR_A_QUEUE), MOST_THREADS)
    if library is not None:
        return NativeEngine(library, block, depth, threads, _THREADS)
    from accel.ops.io.python_engine import PythonEngine

    return PythonEngine(threads)


def choice() -> tuple[bool, str]:
    """Return whether a library uses io_uring, and why; raises what `make_engine` raises."""
    asked = environment.io_engine()
    if asked == "threads":
        return False, "ACCEL_IO_ENGINE=threads asks for it"
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
