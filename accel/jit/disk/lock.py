"""A file lock of the operating system, which the kernel frees when its holder ends."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

_PRIVATE = 0o600
_held: set[int] = set()
_gates: dict[str, threading.Lock] = {}
_hooked = False


class BuildLock:
    """A lock that lets one process at a time build an artifact; without it builds are only slower.

    The kernel's lock counts, not the file's existence, so a killed holder blocks nobody. The
    `filelock` package is not used because it falls back to existence if locking is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free and return whether it was; never waits.

        Raises:
            OSError: locking does not work here.
        """
        import fcntl

        _hook_fork()
        fd = self._open(os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = self._names(fd)
        except BlockingIOError:
            taken = False
        except BaseException:
            os.close(fd)
            raise
        if not taken:
            os.close(fd)
            return False
        self._fd = fd
        _held.add(fd)
        self._sign(fd)
        return True

    def _open(self, flags: int) -> int:
        """Open the file, also if an odd umask took its user's rights to it."""
        try:
            fd = os.open(self.path, flags, _PRIVATE)
        except PermissionError:
            if not self.path.exists():
                raise  # The folder's rights are missing.
            self.path.chmod(_PRIVATE)
            fd = os.open(self.path, flags, _PRIVATE)
        if os.fstat(fd).st_mode & _PRIVATE != _PRIVATE:
            with contextlib.suppress(OSError):
                os.fchmod(fd, _PRIVATE)
        return fd

    def _sign(self, fd: int) -> None:
        """Write the holder's record for waiting processes; the lock works without it."""
        from accel.jit.disk.holder import record

        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.write(fd, record())

    def beat(self) -> None:
        """Show waiting processes that the holder is working, if the lock is held."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.utime(self._fd)

    def _names(self, fd: int) -> bool:
        """Return whether the file is still the one at `path`; a removed file locks nothing."""
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Remove the file of a held lock, and release the lock; raises `OSError`."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.release()

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._fd is not None:
            _held.discard(self._fd)
            os.close(self._fd)
            self._fd = None


def gate(name: str) -> threading.Lock:
    """Return the lock among this process's threads for one artifact."""
    _hook_fork()
    return _gates.setdefault(name, threading.Lock())


def _hook_fork() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """In a forked child: keep no lock of the parent's alive, and wait for none of its threads."""
    for fd in _held:
        os.close(fd)
    _held.clear()
    _gates.clear()
