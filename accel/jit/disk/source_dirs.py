"""The folders of native sources and prebuilt libraries of this installation."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from accel import environment
from accel.errors import OpUnavailable

_PACKAGE = Path(__file__).resolve().parents[2]
_PREBUILT = _PACKAGE / "_prebuilt"


def csrc_dir() -> Path:
    """Return the folder of native sources: ``accel/_csrc`` in a wheel, ``csrc`` in a checkout."""
    installed = _PACKAGE / "_csrc"
    return installed if installed.is_dir() else _PACKAGE.parent / "csrc"


def prebuilt_dirs() -> tuple[Path, ...]:
    """Return the read-only folders searched before the cache: the user's, then the wheel's."""
    return (*environment.prebuilt_dirs(), *((_PREBUILT,) if _PREBUILT.is_dir() else ()))


def in_package(path: Path) -> bool:
    """Return whether `path` is the wheel's folder of prebuilt libraries, or is in it."""
    return path == _PREBUILT or (_PREBUILT in path.parents and ".." not in path.parts)


def guarded_as_package(fd: int) -> bool:
    """Return whether all who may write the file of `fd` may also write the package's folder.

    Whoever can change the package can run any code anyway.
    """
    facts, package = os.fstat(fd), _PACKAGE.stat()
    if facts.st_uid not in {os.geteuid(), 0, package.st_uid}:
        return False
    if facts.st_mode & stat.S_IWGRP and facts.st_gid != package.st_gid:
        return False
    return not facts.st_mode & ~package.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def refuse_archive(path: Path, who: str) -> None:
    """Raise `OpUnavailable` if a path leads into an archive, such as a zipapp; `who` needs it."""
    if path.exists():
        return
    found = next((parent for parent in path.parents if parent.exists()), None)
    if found is not None and found.is_file():
        raise OpUnavailable(
            f"{who}: its sources are in the archive {found}, and compilers read files only. "
            f"Unpack it, or install it with pip."
        )
