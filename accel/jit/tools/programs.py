"""Programs of this machine: their paths, and marks that change with them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from accel import environment


def which(program: str) -> str | None:
    """Return the absolute path of `program` as the shell would find it, or ``None``."""
    folders = [""] if "/" in program else environment.search_path().split(os.pathsep)
    for folder in folders:
        path = os.path.abspath(os.path.join(folder, program))  # noqa: PTH100, PTH118 - keep links
        if os.access(path, os.X_OK) and os.path.isfile(path):  # noqa: PTH113
            return path
    return None


def program_of(word: str) -> str | None:
    """Return the path of the program that a command's word names, ``None`` if it names none."""
    return None if not word or word.startswith("-") else which(word)


def stamp(path: str) -> list[Any]:
    """Return real path, size and time of a file, which change with a compiler."""
    real = os.path.realpath(path)
    try:
        facts = Path(real).stat()
    except OSError:
        return [real]
    return [real, facts.st_size, facts.st_mtime_ns]


def find_ninja() -> str | None:
    """Return the path of ninja: beside Python, in its wheel, or on PATH."""
    beside = Path(sys.executable or "/").parent / "ninja"
    if os.access(beside, os.X_OK):
        return str(beside)
    return which("ninja") or _ninja_of_wheel()


def _ninja_of_wheel() -> str | None:
    from importlib.util import find_spec

    spec = find_spec("ninja")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / "bin" / "ninja"
        if os.access(path, os.X_OK):
            return str(path)
    return None
