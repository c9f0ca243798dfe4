"""A loaded library: mapped once per digest, its symbols seen by nobody else."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accel.jit.artifact import Artifact

Rung = Literal["prebuilt", "jit"]
_loaded: dict[str, Library] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """A native library in this process.

    Attributes:
        handle: its functions, as `ctypes` gives them.
        path: the file.
        digest: digest of the plan that it was built from.
        rung: ``"prebuilt"`` or ``"jit"``.
        manifest: what was recorded when it was built.
    """

    handle: ctypes.CDLL
    path: Path
    digest: str
    rung: Rung
    manifest: Mapping[str, Any]


def loaded(digest: str) -> Library | None:
    """Return the library of that digest if this process has it already."""
    return _loaded.get(digest)


def load(artifact: Artifact, rung: Rung) -> Library:
    """Map an artifact into this process, or return the one mapped before from the same plan.

    Raises:
        OSError: the system's loader refuses it; the message says why.
    """
    known = _loaded.get(artifact.digest)
    if known is not None:
        return known
    handle = ctypes.CDLL(str(artifact.library), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    library = Library(handle, artifact.library, artifact.digest, rung, artifact.manifest)
    return _loaded.setdefault(artifact.digest, library)
