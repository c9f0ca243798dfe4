"""A builder's library inside another package, where `accel.builders.setuptools` put it.

It is one file that ends with a record of its sources.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import json
import logging
import os
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.errors import OpUnavailable
from accel.probe import Accepted, Probe, Rejected

if TYPE_CHECKING:
    from accel.builders.declaration import Declaration
    from accel.jit import Library, Recipe

END = b" accel\n"
DIGITS = 10
_log = logging.getLogger("accel")
_places: dict[tuple[type, str], Path | None] = {}
_libraries: dict[tuple[Path, str], Library] = {}


def load(builder: Declaration) -> Library | None:
    """Return the library in a builder's package, ``None`` without one.

    Raises:
        OpUnavailable: it must not be used, and there are no sources to build it again.
    """
    found = probe(builder)
    if found is None:
        return None
    if isinstance(found, Accepted):
        path = Path(found.note)
        try:
            return _load(path, extension_name(builder))
        except OSError as error:
            found = _refused(path, f"it cannot be loaded: {error}.")
    if not _fit(builder):
        raise OpUnavailable(f"{builder.name} ({builder.backend}): {found}")
    _log.info("%s: %s", builder.name, found)
    return None


def probe(builder: Declaration) -> Probe | None:
    """Return the verdict on that library, with its path or a reason; ``None`` without one."""
    key = (type(builder), builder.name)
    if key not in _places:
        _places[key] = _installed(builder)
    path = _places[key]
    if path is None:
        return None
    why = _why_not(path, builder)
    return _refused(path, why) if why else Accepted(str(path))


def extension_name(builder: Declaration) -> str:
    """Return the full name of a builder's library as a member of a package."""
    kind = type(builder)
    if _is_named(kind):
        return builder.absolute_name()
    package = kind.__module__
    module = sys.modules.get(package)
    if not hasattr(module, "__path__"):
        package = package.rpartition(".")[0] or _package_of_sources(builder)
    return f"{package}.{builder.name}" if package else builder.name


def _is_named(kind: type[Declaration]) -> bool:
    """Return whether a class overrides the name of its library."""
    return kind.absolute_name.__module__ != "accel.builders.base"


def _refused(path: Path, why: str) -> Rejected:
    return Rejected(f"{path} is not used: {why}", "Install the package that it belongs to again.")


def _package_of_sources(builder: Declaration) -> str:
    """Return the package that holds the first source, for a builder that ``setup.py`` defines."""
    try:
        folder = builder.recipe().sources[0].resolve().parent
    except (OpUnavailable, OSError):
        return ""
    while folder.parent != folder and not (folder / "__init__.py").exists():
        folder = folder.parent
    names: list[str] = []
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names)


def renamed_recipe(builder: Declaration) -> Recipe:
    """Return the recipe under the last part of the extension's name, as Python modules need."""
    renamed = copy.copy(builder)
    vars(renamed)["artifact"] = extension_name(builder).rpartition(".")[2]
    return renamed.recipe()


def _installed(builder: Declaration) -> Path | None:
    """Return the file of a builder's packaged library; imports nothing."""
    kind = type(builder)
    if kind.__module__ == "__main__" and not _is_named(kind):
        return None  # A script that loads its op, or setup.py.
    top, *inner = extension_name(builder).split(".")
    try:
        spec = find_spec(top) if inner else None
    except (ImportError, ValueError):
        spec = None
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for suffix in EXTENSION_SUFFIXES:
            path = Path(folder, *inner[:-1], inner[-1] + suffix)
            if path.is_file():
                return path
    return None


@functools.lru_cache(maxsize=64)
def _record(path: Path, mark: tuple[int, ...]) -> dict[str, Any] | None:
    """Return a library's record, ``None`` without one; `mark` changes whenever the file does.

    Raises `ValueError` if the library does not match its record.
    """
    from accel.jit.cache.elf import check
    from accel.jit.disk.safe_io import sha256

    check(data := path.read_bytes())
    start = max(0, len(data) - len(END) - DIGITS)
    length = data[start : start + DIGITS]
    if not data.endswith(END) or not length.isdigit():
        return None
    record: dict[str, Any] = json.loads(data[start - int(length) : start])
    if record["sha256"] != sha256(data[: start - int(length)]):
        raise ValueError("its checksum differs")
    return record


def _recorded(path: Path) -> dict[str, Any] | None:
    facts = path.stat()
    return _record(path, (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))


def _fit(builder: Declaration) -> str:
    """Return the current fit of the sources, ``""`` if the package has none."""
    try:
        return renamed_recipe(builder).fit
    except OSError:
        return ""


def _why_not(path: Path, builder: Declaration) -> str:
    """Return why a packaged library must not be used, ``""`` if it may."""
    try:
        record = _recorded(path)
        fit = _fit(builder)
    except OSError as error:
        return f"it cannot be read: {error.strerror}."
    except (ValueError, KeyError) as error:
        return f"it is damaged: {error}."
    except OpUnavailable as error:
        return str(error)
    if record is None:
        return "it does not say which sources it was made from." if fit else ""
    if record["extension"]:
        from accel.jit.tools.torch_extension import torch_recipe

        identity = torch_recipe("any", builder.backend, [Path("any.cpp")]).identity
        for name, now in identity:
            then = record["identity"].get(name)
            if then != now:
                return f"it was made for {name} {then}, and this is {now}."
    if fit and record["fit"] != fit:
        return "its sources, headers or flags have changed since it was made."
    return _no_device(record)


def _no_device(record: dict[str, Any]) -> str:
    if record["backend"] != "cuda":
        return ""
    from accel.jit.tools.cuda_targets import cannot_run

    why = cannot_run(record)
    return f"{why}." if why else ""


def _load(path: Path, name: str) -> Library:
    """Map a packaged library, once while its record stays the same; raises `OSError`."""
    from accel.jit.library import Library

    record = _recorded(path) or {}
    digest = str(record.get("digest", path))
    if (known := _libraries.get((path, digest))) is not None:
        return known
    if record.get("extension"):
        # It needs symbols of torch's libraries, which only torch itself can load.
        import_module("torch")
    handle = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    library = Library(handle, path, digest, "prebuilt", {"name": name, "module": name})
    return _libraries.setdefault((path, digest), library)
