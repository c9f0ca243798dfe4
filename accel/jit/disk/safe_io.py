"""Reading and writing small files, safe against links, pipes and half-written data."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_PRIVATE, _PRIVATE_FOLDER = 0o600, 0o700


class Reader:
    """A file open for reading, closed with its last reference at the latest.

    Attributes:
        fd: its descriptor; -1 when it is closed.
        path: its name in errors.
    """

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close it, if it is open."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def read(self, limit: int | None = None) -> bytes:
        """Return the bytes; raises `OSError` if they cannot be read or are more than `limit`."""
        size = os.fstat(self.fd).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"longer than {limit} bytes", str(self.path))
        with open(self.fd, "rb", closefd=False) as file:
            return file.read()


def read_regular(path: str | Path, *, limit: int | None = None, follow: bool = True) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: the file.
        limit: the most bytes to accept, or ``None``.
        follow: whether the last part of the path may be a symbolic link.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is longer than `limit`.
    """
    # O_NONBLOCK keeps a pipe that somebody put there from blocking the open forever.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(path, flags)
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if limit is not None and facts.st_size > limit:
            raise OSError(errno.EFBIG, f"longer than {limit} bytes", str(path))
        return file.read()


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only this user can read and write, whatever the umask.

    Raises `OSError`, also if there is one of that name.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, _PRIVATE)
            file.write(data)
    except OSError as error:
        error.filename = str(path)
        raise


def make_private(folder: Path, *, exist_ok: bool = False) -> None:
    """Make a folder that only this user can use, whatever the umask; raises `OSError`."""
    try:
        folder.mkdir(mode=_PRIVATE_FOLDER)
    except FileExistsError:
        if exist_ok and folder.is_dir():
            return
        raise
    # An existing file keeps its mode, which its maker may have chosen.
    folder.chmod(_PRIVATE_FOLDER)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a private file, whatever the umask, so that a reader sees all of it or none.

    Raises `OSError`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        write_private(temporary, data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def remove_tree(folder: Path) -> bool:
    """Remove a folder without following links; return whether it is gone."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        _open_up(folder)
        shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)


def _open_up(folder: Path) -> None:
    """Give this user every right to a folder and those in it, which an odd umask may lack."""
    with contextlib.suppress(OSError):
        if not folder.is_symlink():
            folder.chmod(_PRIVATE_FOLDER)
    for parent, names, _ in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                if not (Path(parent) / name).is_symlink():
                    (Path(parent) / name).chmod(_PRIVATE_FOLDER)
