"""A check, in a microsecond, that the files and folders behind a load are still the same.

The kernel reports changes on this machine at once (inotify(7)). Changes by other machines, on a
network file system, are found by checking ten times a second, since no client sees them sooner.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import stat
import sys
import time
from collections.abc import Iterable

from accel import environment
from accel.jit.disk import source_dirs
from accel.jit.plan import Plan
from accel.jit.recipe import Fit, Recipe
from accel.probe import Rejected

_MODIFY, _ATTRIB, _MOVES, _CREATE, _DELETE = 0x2, 0x4, 0xC0, 0x100, 0x200
_SELF = 0x400 | 0x800
_OF_FILE = _MODIFY | _ATTRIB | _SELF
_OF_FOLDER = _MOVES | _CREATE | _DELETE | _SELF
_NAME = "anon_inode:inotify"
_LOOK_S = 0.1
_RECENT_NS = 50_000_000
_Mark = tuple[int, int, int] | None


class _Notifier:
    """One inotify descriptor, which is never read: its first event is all that counts.

    So a forked child that shares it misses nothing.
    """

    def __init__(self) -> None:
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
            self._poll = select.poll()
        if self._fd >= 0:
            self._poll.register(self._fd, select.POLLIN)

    def works(self) -> bool:
        """Return whether the system gave a descriptor."""
        return self._fd >= 0

    def add(self, path: str, mask: int) -> bool:
        """Watch `path`; return false if that is not possible."""
        name = os.fsencode(path)
        return self._fd >= 0 and bool(self._libc.inotify_add_watch(self._fd, name, mask) >= 0)

    def quiet(self) -> bool:
        """Return whether nothing has happened so far."""
        return self._fd >= 0 and not self._poll.poll(0)

    def close(self) -> None:
        """Close it, unless its number belongs to another file by now."""
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            if fd >= 0 and os.readlink(f"/proc/self/fd/{fd}") == _NAME:  # noqa: PTH115
                os.close(fd)


_notifier: _Notifier | None = None


def _current() -> _Notifier:
    global _notifier
    if _notifier is None or not _notifier.quiet():
        old, _notifier = _notifier, None
        if old is not None:
            old.close()
        _notifier = _Notifier()
    return _notifier


class Watch:
    """Files and folders, and whether they have changed.

    Args:
        files: files whose contents matter.
        folders: folders whose entries' names matter; instead of a missing one, its nearest existing
            parent's.
        since: when they were first read, in nanoseconds since 1970; a change after that, or
            just before, counts.
    """

    def __init__(self, files: Iterable[str], folders: Iterable[str], since: int) -> None:
        self._paths = list(dict.fromkeys([*files, *map(_existing, folders)]))
        notifier = _current()
        # Check all of them: the queue has only the first event.
        added = [notifier.add(path, _mask(path)) for path in self._paths]
        self._notifier = notifier if notifier.works() and all(added) else None
        self._marks = [_mark(path) for path in self._paths]
        self._looked = time.monotonic()
        # A second change within a tick of the file system's clock would leave no trace.
        last = since - _RECENT_NS
        self._sound = all(mark is not None and mark[1] < last for mark in self._marks)

    def unchanged(self) -> bool:
        """Return whether nothing has changed; once false it stays false."""
        if not self._sound:
            return False
        now = time.monotonic()
        if self._notifier is not None:
            if self._notifier is not _notifier or not self._notifier.quiet():
                self._sound = False
                return False
            if now - self._looked < _LOOK_S:
                return True
        self._looked = now
        self._sound = [*map(_mark, self._paths)] == self._marks
        return self._sound


def inputs_of(
    recipe: Recipe, fitted: Fit, plan: Plan | Rejected | None
) -> tuple[list[str], list[str]]:
    """Return the files whose contents, and the folders whose entries, determine a load.

    Files: sources, local headers, compilers. Folders: those that hold or might hold one of them,
    and those of prebuilt libraries.
    """
    files = [os.path.abspath(path) for path in fitted.files.values()]  # noqa: PTH100
    folders = [os.path.dirname(file) for file in files]  # noqa: PTH120
    folders += [os.path.abspath(folder) for folder in recipe.include_dirs]  # noqa: PTH100
    folders += [os.path.abspath(folder) for folder in source_dirs.prebuilt_dirs()]  # noqa: PTH100
    folders += filter(os.path.isabs, environment.search_path().split(os.pathsep))
    compilers = [plan.compiler, plan.host] if isinstance(plan, Plan) else []
    words = [word for one in compilers if one is not None for word in one.command]
    return [*files, *filter(os.path.isfile, words)], folders


def _existing(folder: str) -> str:
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):  # noqa: PTH112, PTH120
        folder = os.path.dirname(folder)  # noqa: PTH120
    return folder


def _mask(path: str) -> int:
    return _OF_FOLDER if os.path.isdir(path) else _OF_FILE  # noqa: PTH112


def _mark(path: str) -> _Mark:
    """Return a mark that changes with a file's contents, or with the names in a folder."""
    try:
        facts = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    changed = facts.st_mtime_ns if stat.S_ISDIR(facts.st_mode) else facts.st_ctime_ns
    return facts.st_ino, changed, facts.st_size
