"""`Disk`: one file of a folder that is written and read by engines, and by plain system calls."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from accel.ops.io.engines import WRITE
from accel.ops.io.failures import failure

MIB = 1 << 20
CALL_THREADS = 8
_WAIT_MS = 50
_FILL = (MIB, 32, 1)
# Major and minor number of the device, and after a lone hyphen the file system and its source.
_MOUNTS = Path("/proc/self/mountinfo")


class Disk:
    """A file without a name in a folder, and memory of its size; to be used in a ``with`` block.

    Args:
        folder: the folder.
        size: bytes of the file.
        make_engine: returns an engine for a block, a depth and threads.

    Attributes:
        limit: how `calls` reads and writes, in words.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(
        self, folder: Path, size: int, make_engine: Callable[[int, int, int], Any]
    ) -> None:
        self._name = str(folder)
        self._size = size
        self._make_engine = make_engine
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `__exit__`
        self._memory = mmap.mmap(-1, size)
        # Noise, since some disks and file systems compress.
        noise = os.urandom(MIB)
        for at in range(0, size, MIB):
            self._memory[at : at + MIB] = noise[: size - at]
        self._done = self._past_cache = self._with_rings = 0
        self._calls_fd, self.limit = self._open_for_calls()
        self._pool = ThreadPoolExecutor(CALL_THREADS)

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()
        if self._calls_fd != self._file.fileno():
            os.close(self._calls_fd)
        self._file.close()

    def fill(self) -> float:
        """Write the whole file and return the seconds."""
        seconds = self.transfer(*_FILL, length=self._size, write=True)
        self._done = self._past_cache = self._with_rings = 0
        return seconds

    def transfer(self, block: int, depth: int, threads: int, *, length: int, write: bool) -> float:
        """Read or write the first bytes of the file by a new engine; return the seconds.

        Raises:
            TransferError: it failed.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        engine = self._make_engine(block, depth, threads)
        try:
            began = time.perf_counter()
            try:
                engine.submit(None, self._file.fileno(), address, 0, length, WRITE if write else 0)
                while engine.wait(0, _WAIT_MS):
                    pass
            except OSError as error:
                raise failure(
                    error.errno or errno.EIO, self._name, 0, length, write=write
                ) from None
            seconds = time.perf_counter() - began
            (result,) = engine.collect(0)
            self._with_rings += bool(engine.rings())
        finally:
            # After Ctrl-C a thread may still be using the memory.
            while engine.wait(0, _WAIT_MS):
                pass
            engine.close()
        if result.error:
            raise failure(result.error, self._name, result.offset, result.length, write=write)
        self._done += result.done
        self._past_cache += result.direct
        return seconds

    def calls(self, length: int, *, write: bool) -> float:
        """Read or write the first bytes by several threads with calls of 1 MiB; return the seconds.

        Raises:
            OSError: a call failed.
        """
        view = memoryview(self._memory)

        def one(at: int) -> None:
            part = view[at : min(at + MIB, length)]
            move = os.pwritev if write else os.preadv
            if move(self._calls_fd, [part], at) != len(part):
                raise failure(errno.EIO, self._name, at, len(part), write=write)

        began = time.perf_counter()
        for _ in self._pool.map(one, range(0, length, MIB)):
            pass
        return time.perf_counter() - began

    def facts(self) -> dict[str, Any]:
        """Return the folder, its file system, and how the engines' transfers went until now."""
        part = self._past_cache / self._done if self._done else 0.0
        return {
            "folder": self._name,
            "file_system": file_system(self._file.fileno()),
            "engine": "io_uring" if self._with_rings else "threads",
            "direct": round(part, 4),
        }

    def _open_for_calls(self) -> tuple[int, str]:
        number = self._file.fileno()
        flag = getattr(os, "O_DIRECT", 0)
        if flag:
            try:
                opened = os.open(f"/proc/self/fd/{number}", os.O_RDWR | os.O_CLOEXEC | flag)
            except OSError:
                pass  # The file system has no such requests.
            else:
                return opened, "past the page cache (O_DIRECT)"
        return number, "through the page cache"


def file_system(number: int) -> str:
    """Return an open file's file system and where it is mounted from, or ``"unknown"``."""
    device = os.fstat(number).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    for line in lines:
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == wanted:
            kind, where, *_ = source.split()
            return f"{kind} on {where}"
    return "unknown"
