"""Where compiled ops are kept, and whether nobody else could have put them there."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from functools import cache
from pathlib import Path

from accel import environment
from accel.errors import CacheUntrusted
from accel.value import Value

_log = logging.getLogger(__name__)
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Location(Value):
    """The folders in use now.

    Attributes:
        path: where new artifacts go; it may not exist yet.
        readable: folders to search, in order.
        note: where new artifacts go instead of the usual folder, and why; usually ``""``.
    """

    path: Path
    readable: tuple[Path, ...]
    note: str = ""


def locate() -> Location:
    """Return the cache folders for the environment as it is now; creates nothing.

    ``ACCEL_CACHE_DIR`` comes first, then the user's cache folder. Where that cannot be written
    (read-only, no HOME, no passwd entry) it is only read, and new artifacts go to a private
    folder under the system's folder for temporary files.

    Raises:
        CacheUntrusted: somebody else owns the folder or may write it.
    """
    usual = environment.cache_dir() or environment.user_cache_dir()
    if usual is None:
        why = "HOME is not set and this user id has no passwd entry"
        return _fallback(f"{why}; set ACCEL_CACHE_DIR to choose a folder", ())
    path = Path(os.path.realpath(usual))
    exists = os.path.lexists(path)
    if exists:
        check_trusted(path)
    refusal = _why_not_writable(path)
    if refusal is None:
        return Location(path, (path,))
    return _fallback(f"{usual} cannot be written ({refusal})", (path,) if exists else ())


def prepare() -> Path:
    """Create the cache folder with mode 0700 where it is missing, and return it.

    Raises:
        CacheUntrusted: somebody else owns the folder or may write it.
        OSError: the folder cannot be created.
    """
    place = locate()
    if place.note:
        _say_once(place.note)
    place.path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        place.path.mkdir(mode=0o700)
    check_trusted(place.path)
    return place.path


def check_trusted(path: Path) -> None:
    """Raise `CacheUntrusted` unless `path` is a folder that only its user (or root) can change."""
    facts = path.stat()
    if not stat.S_ISDIR(facts.st_mode):
        raise CacheUntrusted(f"{path} is not a folder. Remove it, or set ACCEL_CACHE_DIR.")
    if facts.st_uid not in {os.geteuid(), 0}:
        raise CacheUntrusted(
            f"The cache {path} belongs to user id {facts.st_uid}, this process runs as "
            f"{os.geteuid()}. Set ACCEL_CACHE_DIR to a folder of your own."
        )
    if facts.st_mode & _OTHERS_WRITE:
        raise CacheUntrusted(
            f"Others may write the cache {path} (mode {stat.S_IMODE(facts.st_mode):04o}). "
            f"Run: chmod 700 '{path}' after looking into it, or set ACCEL_CACHE_DIR."
        )
    for parent in path.parents:
        facts = parent.stat()
        # Whoever owns a parent could only put a folder there that is not ours, which is refused.
        if facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX:
            raise CacheUntrusted(
                f"Others may replace the cache {path}: everybody may write {parent} (mode "
                f"{stat.S_IMODE(facts.st_mode):04o}). Set ACCEL_CACHE_DIR to another place."
            )


def ours(facts: os.stat_result) -> bool:
    """Return whether a file or folder in the cache can only have been written by this user."""
    return facts.st_uid in {os.geteuid(), 0} and not facts.st_mode & _OTHERS_WRITE


def _why_not_writable(path: Path) -> str | None:
    """Return why `path` cannot be created or written, or ``None``; touches nothing."""
    nearest = path
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    if nearest == path and path.stat().st_uid != os.geteuid():
        return f"it belongs to user id {path.stat().st_uid}"
    if os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return None
    read_only = os.statvfs(nearest).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if read_only else errno.EACCES)


def _fallback(reason: str, readable: tuple[Path, ...]) -> Location:
    path = _temporary_root(os.geteuid())
    note = f"{reason}; compiled ops go to {path} instead."
    return Location(path, (*readable, path), note)


@cache
def _temporary_root(user: int) -> Path:
    """Return a folder for this user under the system's temporary folder, trusted or brand new."""
    import tempfile

    path = Path(os.path.realpath(tempfile.gettempdir())) / f"accel-{user}"
    if not os.path.lexists(path):
        return path
    try:
        if not path.is_symlink():
            check_trusted(path)
            if path.stat().st_uid == user:
                return path
    except CacheUntrusted as error:
        _log.warning("%s Using a fresh folder for this process.", error)
    return Path(tempfile.mkdtemp(prefix=f"accel-{user}-"))


@cache
def _say_once(note: str) -> None:
    _log.warning("%s", note)
