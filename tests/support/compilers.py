"""The C++ compilers of this machine."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

_CLANG = re.compile(r"clang\+\+(-\d+)?")


def compilers() -> list[str]:
    """Return ``g++`` and every ``clang++``, also under names with a release, that is on PATH."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    files = [file for folder in folders if folder.is_dir() for file in folder.iterdir()]
    clangs = sorted({file.name for file in files if _CLANG.fullmatch(file.name)})
    return [name for name in ("g++", *clangs) if shutil.which(name)]
