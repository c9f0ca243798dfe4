"""`SwapFolder`: the folder of one optimizer's states: its lock, its leftovers and its end."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import warnings
from pathlib import Path
from typing import Any

from accel.errors import CacheUntrusted, SwapFailed
from accel.jit.disk import trust
from accel.jit.disk.holder import look
from accel.jit.disk.lock import BuildLock
from accel.ops.checks import shown
from accel.optim.swap.record import LOCK, PREFIX, Found, Record, find

# Of a file that is written as a whole, one with a dot and more may be left.
_OURS = re.compile(rf"\.?{PREFIX}(-\d+\.states|\.layout|\.progress)(\..*)?")


class SwapFolder:
    """A folder that this process has locked for one optimizer.

    Args:
        path: the folder, which must exist, and which only this user may write.
        keep: whether the files stay after the end.

    Attributes:
        path: the folder, without symbolic links.
        record: the record beside the files.
        files: paths of the files with states.
        broken: why the states are lost; ``""`` if they are not.
        process: the process that made this object.

    Raises:
        TypeError: `path` is no path.
        SwapFailed: the folder is missing, in use, not writable, or holds states that were to stay;
            or others may write it.
    """

    def __init__(self, path: Any, *, keep: bool) -> None:
        self.path = trusted(path)
        self.keep = keep
        self.files: list[Path] = []
        self.broken = ""
        self.process = os.getpid()
        self._lock = locked(self.path)
        try:
            _make_way(self.path)
            self.record = Record(self.path, keep=keep)
        except BaseException as error:
            self._lock.remove()
            if isinstance(error, OSError):
                raise unusable(self.path, error) from None
            raise

    def end(self) -> None:
        """Remove the files, or finish them if they stay; only in the process that made them."""
        if os.getpid() != self.process:
            return
        try:
            if self.keep and not self.broken:
                self.record.close(self.files)
            else:
                clear(self.path)
        except OSError as error:
            what = "may not be on the disk" if self.keep else "could not be removed"
            warnings.warn(f"{self.path}: states {what}: {error}", RuntimeWarning, stacklevel=2)
        self.record.forget()
        with contextlib.suppress(OSError):
            self._lock.remove()


def trusted(path: Any) -> Path:
    """Return an existing folder without links; raises as `SwapFolder` does."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise TypeError(f"swap_dir is {shown(path)}; expected the path of a folder.")
    try:
        with trust.hold(Path(os.fsdecode(path))) as folder:
            return folder.path
    except CacheUntrusted as error:
        raise SwapFailed(
            f"swap_dir is {path}, but others could change what is in it: {error} Choose a folder "
            f"that only you can write."
        ) from None
    except FileNotFoundError:
        raise SwapFailed(
            f"swap_dir is {path}, which does not exist; make it first: mkdir -p -m 700 '{path}'."
        ) from None
    except (OSError, ValueError) as error:
        raise unusable(path, error) from None


def locked(path: Path) -> BuildLock:
    """Return the folder's lock, taken; raises `SwapFailed` if somebody has it."""
    lock = BuildLock(path / LOCK)
    try:
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        taken = lock.acquire()
    except OSError as error:
        raise unusable(path, error) from None
    if taken:
        return lock
    holder = look(path / LOCK)
    who = "another process" if holder is None else holder.who.partition(", which")[0]
    raise SwapFailed(
        f"swap_dir is {path}, which an optimizer of {who} uses; give each optimizer a folder of "
        f"its own, or close that one."
    )


def unusable(path: object, error: Exception) -> SwapFailed:
    """Return the error of a folder in which files cannot be made or used."""
    why = getattr(error, "strerror", None) or error
    return SwapFailed(
        f"swap_dir is {path}, where files cannot be kept: {why}. Choose a folder in which this "
        f"process may write."
    )


def clear(path: Path) -> None:
    """Remove all files of an optimizer but the lock."""
    for file in path.glob("*"):
        if _OURS.fullmatch(file.name):
            file.unlink(missing_ok=True)


def _make_way(path: Path) -> None:
    """Remove what a process that was killed has left; refuse to remove what was to stay."""
    found: Found | None = None
    try:
        found = find(path)
        why = found.fault() if found else ""
    except ValueError as error:
        why = f"their record is damaged ({error})"
    if found is not None and found.keep and not why:
        raise SwapFailed(
            f"swap_dir is {path}, which holds the states of step {found.step}, kept by "
            f"swap_keep=True. Read them with accel.optim.read_swap and remove them, or choose "
            f"another folder."
        )
    if found is not None or why:
        said = (
            why or f"its process {found.pid if found else 0} was killed after step {_step(found)}"
        )
        warnings.warn(
            f"{path} held states of another run: {said}. They are removed; a run resumes from its "
            f"checkpoint.",
            RuntimeWarning,
            stacklevel=6,
        )
    clear(path)


def _step(found: Found | None) -> int:
    return found.step if found else 0
