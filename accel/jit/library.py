"""A loaded library, mapped once per digest, with symbols that no other library sees."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from accel.jit.cache.artifact import Artifact

Rung = Literal["prebuilt", "jit"]
_log = logging.getLogger(__name__)
_serial = count(1)
_loaded: dict[str, Library] = {}
_modules: dict[str, ModuleType] = {}


class Library:
    """A native library in this process.

    Attributes:
        handle: its functions, as `ctypes` gives them.
        path: the file.
        digest: digest of the plan that it was built from.
        rung: ``"prebuilt"`` or ``"jit"``.
        manifest: the record of its build.
    """

    def __init__(
        self,
        handle: ctypes.CDLL,
        path: Path,
        digest: str,
        rung: Rung,
        manifest: Mapping[str, Any],
    ) -> None:
        self.handle = handle
        self.path = path
        self.digest = digest
        self.rung = rung
        self.manifest = manifest

    def bind(self, symbol: str) -> Any:
        """Return a function of the library, an object of its own; `AttributeError` without it."""
        return self.handle[symbol]

    def load_module(self) -> ModuleType:
        """Return the library as a Python extension module, the same one at every call.

        Raises `ImportError` if it is not one.
        """
        known = _modules.get(self.digest)
        if known is not None:
            return known
        name = self.manifest["name"]
        loader = ExtensionFileLoader(name, str(self.path))
        spec = spec_from_file_location(name, self.path, loader=loader)
        if spec is None:
            raise ImportError(f"{self.path} is not a Python extension module.", name=name)
        # The name that it was mapped by, so that the system's loader returns the same library.
        spec.origin = self.handle._name
        module = module_from_spec(spec)
        loader.exec_module(module)
        spec.origin = module.__file__ = str(self.path)
        return _modules.setdefault(self.digest, module)


def loaded(digest: str) -> Library | None:
    """Return the library of that digest if this process has it already."""
    return _loaded.get(digest)


def forget(digest: str) -> None:
    """Make the next load of that digest map a library again; this one stays mapped."""
    _loaded.pop(digest, None)


def load(artifact: Artifact, rung: Rung) -> Library:
    """Map an artifact into this process, or return the one mapped before from the same plan.

    Raises:
        OSError: the system's loader refuses it; the message says why.
    """
    known = _loaded.get(artifact.digest)
    if known is not None:
        return known
    if artifact.manifest["extension"]:
        # It needs symbols of torch's libraries, which only torch itself can load.
        import_module("torch")
    _share_openmp()
    library = Library(_map(artifact), artifact.library, artifact.digest, rung, artifact.manifest)
    artifact.file.close()
    return _loaded.setdefault(artifact.digest, library)


def _map(artifact: Artifact) -> ctypes.CDLL:
    """Map exactly the file that was verified, even if another one has its path by now."""
    path = str(artifact.library)
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, "it was removed after it was verified", path)
    name = _descriptor_path(artifact.file.fd)
    # A library that finds others relative to its own folder must be loaded by its path.
    if artifact.file.fd < 0 or artifact.by_place or not os.path.exists(name):  # noqa: PTH110
        _log.debug("%s is loaded by its path.", path)
        name = path
    try:
        return ctypes.CDLL(name, mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        raise OSError(str(error).replace(name, path)) from error


def _descriptor_path(fd: int) -> str:
    """Return a path to a descriptor's file, in a spelling that was never used before.

    For a name that it has seen before, the system's loader, and Python's for extensions, return the
    earlier library, although the descriptor's number may belong to another file now.
    """
    spelling = f"{next(_serial):b}".replace("0", "/").replace("1", "./")
    return f"/proc/self/fd/{spelling}{fd}"


def _share_openmp() -> None:
    """Bind calls to OpenMP to the runtime of torch's wheels if they renamed it, on aarch64.

    Otherwise ``libgomp.so.1`` would be loaded too, and two thread pools would compete.
    """
    package = getattr(sys.modules.get("torch"), "__file__", None)
    if not package:
        return
    folder = Path(package).parent.with_name("torch.libs")
    if folder.is_dir():
        for runtime in folder.glob("libgomp-*"):
            ctypes.CDLL(str(runtime), mode=os.RTLD_NOW | os.RTLD_GLOBAL)
