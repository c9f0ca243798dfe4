"""The folder for compiled ops, which nobody else can write to."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from accel import environment
from accel.errors import CacheUntrusted
from accel.jit.disk import trust
from accel.record import Record

_log = logging.getLogger(__name__)
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_ADVICE = " Set ACCEL_CACHE_DIR to a folder that only you can change, and that can be written."
_OWN_FOLDERS = (".staging", ".locks", ".failed", ".toolchains")


class Location(Record):
    """The folders in use now.

    Attributes:
        path: where new artifacts go; it may not exist yet.
        readable: folders to search, in order.
        note: why new artifacts do not go to the usual folder, and where they go; usually ``""``.
        avoided: whether the reason is that others may change the usual folder.
    """

    path: Path
    readable: tuple[Path, ...]
    note: str = ""
    avoided: bool = False


def locate() -> Location:
    """Return the cache folders for the environment as it is now; creates nothing.

    ``ACCEL_CACHE_DIR`` comes first, then the user's cache folder. If that cannot be written
    (read-only, no HOME, no passwd entry), it is only read. If others may change it, or it forbids
    execution, it is not used. In either case new artifacts go to a private temporary folder.

    Raises:
        CacheUntrusted: others may change the folder and ``ACCEL_OPS=native``, or may change every
            folder for temporary files, too.
        InvalidSetting: ``ACCEL_CACHE_DIR`` names a home that does not exist.
        OSError: this process has reached a limit, such as that on open files.
    """
    asked = environment.cache_dir()
    usual = asked or environment.user_cache_dir()
    if usual is None:
        why = "HOME is not set and this user id has no passwd entry"
        return _fallback(f"{why}; set ACCEL_CACHE_DIR to choose a folder", ())
    try:
        with trust.reach(usual) as found:
            if not found.missing:
                found.check()
            return _judged(usual, found, _shown(usual, asked))
    except CacheUntrusted as error:
        reason = f"{error} So the cache {usual} is not used; set ACCEL_CACHE_DIR to choose another"
        if environment.ops_policy() == "native":
            raise CacheUntrusted(f"{reason}.") from error
        return _fallback(reason, (), avoided=True)
    except OSError as error:
        if error.errno in _LIMITS:
            raise
        reason = error.strerror or str(error)
        if error.errno == errno.ENOTDIR:
            reason = f"{error.filename} is not a folder"
        return _fallback(f"{_shown(usual, asked)} cannot be written ({reason})", (), advice=_ADVICE)


def prepare() -> Path:
    """Create the cache folder with mode 0700 if it is missing, and return it.

    So are the folders above it and the engine's own in it, whatever the umask.

    Raises:
        CacheUntrusted: others may change the folder; see `locate`.
        OSError: the folder cannot be created.
    """
    place = locate()
    if place.note:
        say_once(place.note)
    try:
        with trust.make(place.path) as folder:
            for name in _OWN_FOLDERS:
                folder.keep(name)
    except OSError as error:
        # If a folder is made relative to another one, the system's error has only its last part.
        why = f"no folder can be made ({error.strerror})"
        raise OSError(error.errno, why, str(place.path)) from error
    return place.path


def ours(facts: os.stat_result) -> bool:
    """Return whether only this user or root can have written a file or folder in the cache."""
    return facts.st_uid in {os.geteuid(), 0} and not facts.st_mode & _OTHERS_WRITE


def _shown(usual: Path, asked: Path | None) -> str:
    return f"The cache {usual}" if asked is None else f"ACCEL_CACHE_DIR={asked}"


def _judged(usual: Path, found: trust.Folder, shown: str) -> Location:
    """Return the location of a trusted cache, or a fallback if it is read-only."""
    path = found.path.joinpath(*found.missing)
    if os.statvfs(found.path).f_flag & os.ST_NOEXEC:
        reason = f"{shown} is on a file system that forbids execution (noexec)"
        return _fallback(reason, (), advice=_ADVICE)
    refusal = _why_not_writable(found)
    if refusal is None:
        return Location(path, (path,))
    readable = not found.missing and _may(path, os.R_OK | os.X_OK)
    if found.missing or readable:
        reason = f"{shown} cannot be written ({refusal})"
    else:
        reason = f"{shown} cannot be read ({os.strerror(errno.EACCES)}) or written ({refusal})"
    return _fallback(reason, (path,) if readable else (), advice=_ADVICE)


def _why_not_writable(found: trust.Folder) -> str | None:
    """Return why nothing can be created in a folder, or ``None``; touches nothing."""
    facts = os.fstat(found.fd)
    if not found.missing and facts.st_uid != os.geteuid():
        return f"it belongs to user id {facts.st_uid}"
    if _may(found.path, os.W_OK | os.X_OK):
        return None
    read_only = os.statvfs(found.path).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if read_only else errno.EACCES)


def _may(path: Path, rights: int) -> bool:
    return os.access(path, rights, effective_ids=os.access in os.supports_effective_ids)


def _fallback(
    reason: str, readable: tuple[Path, ...], *, avoided: bool = False, advice: str = ""
) -> Location:
    path = _private_place()
    if path is None:
        raise CacheUntrusted(
            f"{reason}. No folder for temporary files is both safe and writable. Set "
            f"ACCEL_CACHE_DIR to a folder that only you can change."
        )
    note = f"{reason}; compiled ops go to {path} instead.{advice}"
    return Location(path, (*readable, path), note, avoided)


def _private_place() -> Path | None:
    """Return a folder for this user among temporary files, trusted or brand new."""
    name = f"accel-{os.geteuid()}"
    for base in _temporary_folders():
        try:
            with trust.reach(base) as found:
                usable = not found.missing and not os.statvfs(base).f_flag & os.ST_NOEXEC
                if not usable or not _may(found.path, os.W_OK | os.X_OK):
                    continue
                return _place_in(found, name)
        except (OSError, CacheUntrusted) as error:
            _log.info("%s is not used for compiled ops: %s", base, error)
    return None


def _temporary_folders() -> Iterator[Path]:
    import tempfile

    try:
        yield Path(tempfile.gettempdir())
    except OSError as error:
        _log.info("no folder for temporary files: %s", error)
    runtime = environment.runtime_dir()
    if runtime is not None:
        yield runtime
    yield from (Path("/tmp"), Path("/var/tmp"))


def _place_in(base: trust.Folder, name: str) -> Path:
    """Return the folder of that name, or a fresh one if that one is not this user's alone."""
    try:
        with base.enter(name) as found:
            owner = os.fstat(found.fd).st_uid
        fault = "" if owner == os.geteuid() else f"{found.path} belongs to user id {owner}."
    except FileNotFoundError:
        fault = ""
    except (OSError, CacheUntrusted) as error:
        fault = str(error)
    return _fresh(base.path, name, fault) if fault else base.path / name


@cache
def _fresh(base: Path, name: str, fault: str) -> Path:
    import tempfile

    _log.warning("%s Using a fresh folder for this process.", fault)
    path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
    path.chmod(trust.PRIVATE)
    return path


@cache
def say_once(note: str) -> None:
    """Warn with a text once per process."""
    _log.warning("%s", note)
