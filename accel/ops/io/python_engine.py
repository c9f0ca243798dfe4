"""`PythonEngine`: the reference engine, for systems without a compiler."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
import time
from collections import deque
from typing import NamedTuple

from accel.errors import AccelError
from accel.ops.io.engines import WRITE, Result

_MOST = 1 << 30
_IDLE_S = 1.0


class _Job(NamedTuple):
    result: Result
    fd: int
    memory: memoryview
    offset: int
    write: bool


class PythonEngine:
    """An `Engine` of Python threads, which uses only the page cache.

    Args:
        threads: the largest number of transfers at a time. A thread ends after an idle second.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._queue: deque[_Job] = deque()
        self._pending: set[int] = set()
        self._cancelled: set[int] = set()
        self._ended: list[Result] = []
        self._running = self._idle = self._tickets = 0

    def submit(
        self, path: bytes | None, fd: int, address: int, offset: int, length: int, flags: int
    ) -> int:
        """See `Engine`."""
        self._check()
        job = _open(path, fd, address, offset, length, flags)
        with self._changed:
            self._tickets += 1
            job.result.ticket = self._tickets
            self._pending.add(self._tickets)
            self._queue.append(job)
            if self._idle < len(self._queue) and self._running < self._threads:
                self._running += 1
                threading.Thread(target=self._work, daemon=True).start()
            self._changed.notify_all()
            return self._tickets

    def run(
        self, path: bytes | None, fd: int, address: int, offset: int, length: int, flags: int
    ) -> Result:
        """See `Engine`."""
        self._check()
        job = _open(path, fd, address, offset, length, flags)
        self._transfer(job)
        return job.result

    def wait(self, ticket: int, milliseconds: int) -> int:
        """See `Engine`."""
        self._check()
        until = time.monotonic() + milliseconds / 1000
        with self._changed:
            while left := self._left(ticket):
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    break
            return left

    def collect(self, ticket: int) -> list[Result]:
        """See `Engine`."""
        self._check()
        with self._changed:
            taken = [one for one in self._ended if ticket in (0, one.ticket)]
            self._ended = [one for one in self._ended if ticket not in (0, one.ticket)]
            return taken

    def cancel(self, ticket: int) -> None:
        """See `Engine`."""
        self._check()
        with self._changed:
            self._cancelled |= {ticket} & self._pending

    def rings(self) -> int:
        """Return 0."""
        return 0

    def close(self) -> None:
        """Do nothing: idle threads end by themselves."""

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise AccelError(
                f"the handle was made in process {self._process}, and this is {os.getpid()}; make "
                f"one here."
            )

    def _left(self, ticket: int) -> int:
        return len(self._pending) if not ticket else int(ticket in self._pending)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                found = self._changed.wait_for(lambda: self._queue, timeout=_IDLE_S)
                self._idle -= 1
                if not found:
                    self._running -= 1
                    return
                job = self._queue.popleft()
            self._transfer(job)
            with self._changed:
                self._pending.discard(job.result.ticket)
                self._cancelled.discard(job.result.ticket)
                self._ended.append(job.result)
                self._changed.notify_all()

    def _transfer(self, job: _Job) -> None:
        result, size = job.result, len(job.memory)
        try:
            while result.done < size:
                part = job.memory[result.done : result.done + _MOST]
                move = os.pwritev if job.write else os.preadv
                if result.ticket in self._cancelled:
                    raise OSError(errno.ECANCELED, "")
                moved = move(job.fd, [part], job.offset + result.done)
                if moved == 0:
                    raise OSError(errno.EIO if job.write else errno.ENODATA, "")
                result.done += moved
        except OSError as error:
            result.error = error.errno or errno.EIO
            result.offset, result.length = job.offset + result.done, size - result.done
        try:
            os.close(job.fd)
        except OSError as error:
            if job.write and not result.error:
                result.error, result.offset, result.length = (
                    error.errno or errno.EIO,
                    job.offset,
                    size,
                )


def _open(path: bytes | None, fd: int, address: int, offset: int, length: int, flags: int) -> _Job:
    """Return a transfer that can begin; raises `OSError` if it cannot."""
    write = bool(flags & WRITE)
    own = _open_path(path, write) if path is not None else _duplicate(fd, write)
    try:
        facts = os.fstat(own)
        if stat.S_ISDIR(facts.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(facts.st_mode) and not stat.S_ISBLK(facts.st_mode):
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
        ends = offset + length if length else 0
        if not write and stat.S_ISREG(facts.st_mode) and ends > facts.st_size:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        if path is not None:
            os.set_blocking(own, True)
    except OSError:
        os.close(own)
        raise
    memory = (ctypes.c_char * length).from_address(address) if length else b""
    return _Job(Result(), own, memoryview(memory).cast("B"), offset, write)


def _open_path(path: bytes, write: bool) -> int:
    access = os.O_WRONLY | os.O_CREAT if write else os.O_RDONLY
    try:
        # Opening a pipe without another end would block.
        return os.open(path, access | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE)) from None
        raise


def _duplicate(fd: int, write: bool) -> int:
    import fcntl

    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    access = flags & os.O_ACCMODE
    if access not in (os.O_RDWR, os.O_WRONLY if write else os.O_RDONLY):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    if write and flags & os.O_APPEND:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    # Requests that bypass the page cache must be aligned, and these may not be.
    direct = getattr(os, "O_DIRECT", 0)
    return os.open(f"/proc/self/fd/{fd}", access) if flags & direct else os.dup(fd)
