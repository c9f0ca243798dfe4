"""The rule for trusted folders, shared by the cache, its layers and prebuilt folders.

A folder is trusted if it and every folder above it belong to this user or to root, and nobody else
may write to them. A folder above it may be sticky, such as ``/tmp``, since nobody can change other
users' files there. Each folder is opened through the descriptor of the one above it, and files
through that of the last one, so that nothing can be replaced between the check and the use.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from accel.errors import CacheUntrusted
from accel.jit.disk.source_dirs import guarded_as_package, in_package

if TYPE_CHECKING:
    from typing_extensions import Self

PRIVATE = 0o700
_ALL = 0o777
# Holding a folder takes no right to list it; with O_DIRECTORY an automatic mount takes place.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_ONE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
_MOST_LINKS = 40


class Folder:
    """A folder that is held open.

    Attributes:
        path: its path, without symbolic links.
        fd: its descriptor.
        missing: the part of the requested path that does not exist.
        exempt: whether it is this package's, in which files guarded like the package may be used.
    """

    def __init__(
        self, path: Path, fd: int, missing: tuple[str, ...] = (), *, exempt: bool = False
    ) -> None:
        self.path = path
        self.fd = fd
        self.missing = missing
        self.exempt = exempt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def check(self) -> None:
        """Raise `CacheUntrusted` if others may put something into the folder."""
        self._refuse(self.fd, self.path)

    def enter(self, name: str) -> Folder:
        """Open a folder in this one, following no link.

        Raises:
            CacheUntrusted: others may change it.
            OSError: it does not exist, is not a folder, or may not be entered.
        """
        fd = _open(self.fd, name, _FOLDER, self.path)
        try:
            self._refuse(fd, self.path / name)
        except CacheUntrusted:
            os.close(fd)
            raise
        return Folder(self.path / name, fd, exempt=self.exempt)

    def open_file(self, name: str) -> int:
        """Return a descriptor to read a regular file in this folder, following no link.

        Raises:
            CacheUntrusted: others may write it.
            OSError: it does not exist, is not a regular file, or may not be read.
        """
        # Without O_NONBLOCK a pipe that somebody put there would block the open forever.
        fd = _open(self.fd, name, _FILE, self.path)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self.path / name))
            self._refuse(fd, self.path / name)
        except (OSError, CacheUntrusted):
            os.close(fd)
            raise
        return fd

    def make(self, name: str) -> None:
        """Make a private folder in this one, whatever the umask; one that exists is left alone.

        Raises `OSError`.
        """
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, PRIVATE, dir_fd=self.fd)
            if os.lstat(name, dir_fd=self.fd).st_mode & stat.S_IRWXU != PRIVATE:
                os.chmod(name, PRIVATE, dir_fd=self.fd)

    def keep(self, name: str) -> None:
        """Make a private folder in this trusted one, replacing anything else of that name.

        Raises `OSError`.
        """
        try:
            facts = os.lstat(name, dir_fd=self.fd)
        except FileNotFoundError:
            self.make(name)
            return
        if not stat.S_ISDIR(facts.st_mode):
            os.unlink(name, dir_fd=self.fd)
            self.make(name)
        elif facts.st_mode & _ALL != PRIVATE:
            os.chmod(name, PRIVATE, dir_fd=self.fd)

    def _refuse(self, fd: int, path: Path) -> None:
        if self.exempt and guarded_as_package(fd):
            return
        if fault := _fault(fd, path, (os.geteuid(), 0)):
            raise CacheUntrusted(fault)


def reach(path: Path) -> Folder:
    """Open the folder at `path`, or the nearest one above it that exists.

    The folders above `path` are trusted then; `Folder.check` asks about the last one.

    Raises:
        CacheUntrusted: others could replace a folder or link on the way.
        OSError: something on the way is not a folder or may not be entered.
    """
    descent = _Descent()
    try:
        missing = descent.follow(os.fspath(path))
    except (OSError, CacheUntrusted):
        os.close(descent.fd)
        raise
    return Folder(Path(str(descent)), descent.fd, missing)


def hold(path: Path) -> Folder:
    """Open a folder that only this user and root can change, or this package's own.

    Raises:
        CacheUntrusted: others may change it, or could replace it.
        OSError: it does not exist, is not a folder, or may not be entered.
    """
    own = in_package(path)
    folder = Folder(path, os.open(path, _FOLDER | _ONE), exempt=True) if own else reach(path)
    try:
        if folder.missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        folder.check()
    except (OSError, CacheUntrusted):
        folder.close()
        raise
    return folder


def make(path: Path) -> Folder:
    """Open a folder that only this user and root can change; missing folders are made private.

    Raises:
        CacheUntrusted: others may change it, or could replace it.
        OSError: it cannot be made.
    """
    folder = reach(path)
    for name in folder.missing:
        with folder as outer:
            outer.make(name)
            folder = outer.enter(name)
    try:
        folder.check()
    except CacheUntrusted:
        folder.close()
        raise
    return folder


class _Descent:
    """A path that is opened from the root down, one folder at a time.

    Attributes:
        fd: the folder that was reached.
    """

    def __init__(self) -> None:
        self.fd = os.open("/", _FOLDER | _ONE)
        self.names: list[str] = []
        self.links = 0
        # The owner of the root folder could replace everything; it is not 0 if a user
        # namespace does not know root.
        self.trusted = (os.geteuid(), 0, os.fstat(self.fd).st_uid)

    def __str__(self) -> str:
        return "/" + "/".join(self.names)

    def follow(self, text: str) -> tuple[str, ...]:
        """Open folders as far as they exist, and return the remaining names."""
        todo = _names(text if text.startswith("/") else f"{os.getcwd()}/{text}")  # noqa: PTH109
        while todo:
            name = todo.pop()
            try:
                self._enter(name)
            except FileNotFoundError:
                if ".." in todo:
                    raise
                return (name, *reversed(todo))
            except OSError as error:
                if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                    raise
                todo += self._target(name)
        return ()

    def _enter(self, name: str) -> None:
        fd = _open(self.fd, name, _FOLDER, self)
        os.close(self.fd)
        self.fd = fd
        if name != "..":
            self.names.append(name)
        elif self.names:
            self.names.pop()
        fault = _fault(fd, self, self.trusted, passing=True)
        if fault:
            raise CacheUntrusted(fault)

    def _target(self, name: str) -> list[str]:
        """Return the parts of a link's target; raises `OSError` if it is not a link."""
        path = os.path.join(str(self), name)  # noqa: PTH118
        facts = os.lstat(name, dir_fd=self.fd)
        if not stat.S_ISLNK(facts.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if facts.st_uid not in self.trusted:
            raise CacheUntrusted(_belongs(path, facts.st_uid))
        self.links += 1
        if self.links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(name, dir_fd=self.fd)
        if target.startswith("/"):
            os.close(self.fd)
            self.fd = os.open("/", _FOLDER | _ONE)
            self.names.clear()
        return _names(target)


def _names(text: str) -> list[str]:
    """Return the parts of a path, the last one first."""
    return [name for name in reversed(text.split("/")) if name not in {"", "."}]


def _open(folder: int, name: str, flags: int, path: object) -> int:
    try:
        return os.open(name, flags | _ONE, dir_fd=folder)
    except OSError as error:
        error.filename = os.path.join(str(path), name)  # noqa: PTH118
        raise


def _fault(fd: int, path: object, trusted: tuple[int, ...], *, passing: bool = False) -> str:
    """Return a sentence on who else may write a file or folder; ``""`` if nobody may.

    Args:
        fd: a descriptor of it.
        path: its name in the sentence.
        trusted: the users that may own it.
        passing: whether it is only on the way to another folder, so that it may be sticky.
    """
    facts = os.fstat(fd)
    if facts.st_uid not in trusted:
        return _belongs(path, facts.st_uid)
    if passing and facts.st_mode & stat.S_ISVTX:
        return ""
    if not facts.st_mode & stat.S_IWOTH:
        if not facts.st_mode & stat.S_IWGRP:
            return ""
        from accel.jit.disk.groups import alone

        if alone(facts.st_uid, facts.st_gid, fd):
            return ""
    mode = f"mode {stat.S_IMODE(facts.st_mode):04o}, group id {facts.st_gid}"
    # A sticky folder, such as /tmp, is meant for everybody.
    own = facts.st_uid == os.geteuid() and not facts.st_mode & stat.S_ISVTX
    end = f"; to forbid it: chmod go-w '{path}'" if own else ""
    return f"Others may write {path} ({mode}{end})."


def _belongs(path: object, user: int) -> str:
    return f"{path} belongs to user id {user}, and this process runs as {os.geteuid()}."
