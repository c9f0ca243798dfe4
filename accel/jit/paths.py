"""Where the native sources and the prebuilt folders of this installation lie."""

from __future__ import annotations

from pathlib import Path

from accel import environment

_PACKAGE = Path(__file__).resolve().parent.parent
_PREBUILT = _PACKAGE / "_prebuilt"


def csrc_dir() -> Path:
    """Return the folder of native sources: ``accel/_csrc`` in a wheel, ``csrc`` in a checkout."""
    installed = _PACKAGE / "_csrc"
    return installed if installed.is_dir() else _PACKAGE.parent / "csrc"


def prebuilt_dirs() -> tuple[Path, ...]:
    """Return the read-only folders searched before the cache: the user's, then the wheel's."""
    return (*environment.prebuilt_dirs(), *((_PREBUILT,) if _PREBUILT.is_dir() else ()))


def in_package(path: Path) -> bool:
    """Return whether `path` is the wheel's folder of prebuilt libraries, or lies in it."""
    return path == _PREBUILT or (_PREBUILT in path.parents and ".." not in path.parts)
