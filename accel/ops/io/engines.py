"""The interface of engines, and the engine of the native library."""

from __future__ import annotations

import ctypes
from typing import ClassVar, Protocol

from accel.ops.frame.handle import Handle

WRITE = 1
BUFFERED = 2
MOST_THREADS = 1024


class Result(ctypes.Structure):
    """The end of a transfer: ``accel_io_result``.

    Attributes:
        ticket: the number that `Engine.submit` returned.
        error: an errno, or 0.
        offset: after an error, the offset of the failing piece in the file.
        length: number of bytes of the failing piece.
        done: number of bytes transferred.
        direct: number of these bytes that bypassed the page cache.
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
    """The interface of engines: transfers, each known by its ticket, a number from 1 on.

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
        """Wait at most so long for one transfer, or for all if `ticket` is 0.

        Returns how many have not ended.
        """

    def collect(self, ticket: int) -> list[Result]:
        """Return the results of ended transfers, each once: of one, or of all if `ticket` is 0."""

    def cancel(self, ticket: int) -> None:
        """Start no more requests of a transfer; those in flight still end."""

    def rings(self) -> int:
        """Return how many threads have an io_uring."""

    def close(self) -> None:
        """End the threads."""


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
