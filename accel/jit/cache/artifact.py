"""An artifact on disk: a library beside a manifest with its description and checksum."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel.errors import CacheUntrusted
from accel.jit.cache.elf import fault_of
from accel.jit.disk import trust
from accel.jit.disk.safe_io import Reader, read_regular, sha256
from accel.jit.recipe import ENGINE, libc
from accel.probe import Rejected
from accel.record import Record

MANIFEST = "manifest.json"
LOG = "build.log"
_MOST_MANIFEST = 32 << 20
_TEXTS = ("name", "backend", "fit", "base", "digest", "engine", "sha256", "glibc")


class Artifact(Record):
    """A library with a valid manifest and checksum.

    Attributes:
        folder: holds the library, `MANIFEST` and the build's log.
        library: the file to load.
        manifest: the record of its build.
        file: the library as it was verified, still open.
        by_place: whether it finds other libraries relative to its own folder (``$ORIGIN``).
    """

    folder: Path
    library: Path
    manifest: Mapping[str, Any]
    file: Reader
    by_place: bool = False

    @property
    def digest(self) -> str:
        """Digest of the plan that it was built from."""
        text: str = self.manifest["digest"]
        return text


def read_manifest(folder: Path) -> Mapping[str, Any] | Rejected:
    """Return a folder's manifest, or why it is not valid; the library is not read."""
    try:
        data = read_regular(folder / MANIFEST, limit=_MOST_MANIFEST, follow=False)
    except OSError as error:
        return Rejected(f"{folder / MANIFEST} cannot be read: {error.strerror}.")
    return _manifest_in(data, folder)


def _manifest_in(text: bytes, folder: Path) -> Mapping[str, Any] | Rejected:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Rejected(f"{folder / MANIFEST} cannot be read: {error}.")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in _TEXTS):
        return Rejected(f"{folder / MANIFEST} is not a manifest of this library.")
    if data["engine"] != ENGINE:
        return Rejected(f"{folder} was made by engine {data['engine']!r}, this is {ENGINE!r}.")
    if not _right_types(data) or folder.name != f"{data['name']}-{data['digest']}":
        return Rejected(f"{folder / MANIFEST} contradicts itself or its folder.")
    return data


def verify(folder: Path, name: str, *, private: bool = True) -> Artifact | Rejected:
    """Return the artifact in `folder`, or why it must not be loaded; never raises.

    Args:
        folder: where it should be; see `trust` for where that may be.
        name: stem of the library.
        private: whether it is in the user's own cache, and its headers are on this machine.
    """
    try:
        with trust.hold(folder.parent) as parent, parent.enter(folder.name) as held:
            return _verified(held, folder, name, private)
    except FileNotFoundError as error:
        if error.filename == str(folder):
            return Rejected("nothing cached for this digest.")
        return Rejected(f"{error.filename} does not exist.")
    except NotADirectoryError as error:
        return Rejected(f"{error.filename} is not a folder.")
    except OSError as error:
        return Rejected(f"{error.filename or folder} cannot be read: {error.strerror or error}.")
    except CacheUntrusted as error:
        return Rejected(str(error))


def _verified(held: trust.Folder, folder: Path, name: str, private: bool) -> Artifact | Rejected:
    """Check manifest and library through the folder's descriptor; raises what `verify` returns."""
    with Reader(held.open_file(MANIFEST), folder / MANIFEST) as file:
        manifest = _manifest_in(file.read(_MOST_MANIFEST), folder)
    if isinstance(manifest, Rejected):
        return manifest
    if manifest["name"] != name:
        return Rejected(f"{folder} holds {manifest['name']!r}, not {name!r}.")
    library = folder / f"{name}.so"
    file = Reader(held.open_file(library.name), library)
    data = file.read()
    wrong = _wrong_bytes(library, data, manifest) or _wrong_machine(manifest)
    if wrong is None and private:
        # On another machine the headers have other paths; the fit covers their package.
        wrong = _changed_header(manifest["headers"])
    if wrong is not None:
        return Rejected(wrong)
    return Artifact(folder, library, manifest, file, b"$ORIGIN" in data or b"${ORIGIN}" in data)


def _right_types(data: Mapping[str, Any]) -> bool:
    """Return whether the parts of a manifest that are not texts have the engine's types."""
    tables = (data.get("ingredients"), data.get("headers"))
    return (
        isinstance(data.get("size"), int)
        and isinstance(data.get("extension"), bool)
        and isinstance(data.get("targets"), list)
        and isinstance(data.get("user_flags"), list)
        and all(isinstance(text, str) for text in (*data["targets"], *data["user_flags"]))
        and all(isinstance(table, dict) for table in tables)
        and all(isinstance(text, str) for text in data["ingredients"].values())
        and all(isinstance(mark, list) and len(mark) == 4 for mark in data["headers"].values())
    )


def _wrong_bytes(library: Path, data: bytes, manifest: Mapping[str, Any]) -> str | None:
    if len(data) != manifest["size"]:
        return f"{library} has {len(data)} bytes, but its manifest says {manifest['size']}."
    if sha256(data) != manifest["sha256"]:
        return f"{library} does not match the checksum in its manifest."
    fault = fault_of(data)
    by = manifest.get("compiler", "an unknown compiler")
    return f"{library} {fault}; it was built so by {by}." if fault else None


def _wrong_machine(manifest: Mapping[str, Any]) -> str | None:
    family, version = libc()
    needed = manifest["glibc"]
    if family == "glibc" and _numbers(needed) > _numbers(version):
        return f"it needs glibc {needed}, and this machine has {version}."
    return None


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:4]
    return tuple(int(part[:9]) for part in parts if part.isascii() and part.isdigit())


def header_mark(path: Path) -> list[Any]:
    """Return the marks of a header: size, times of change, and the hash of its contents.

    Raises `OSError` if it cannot be read.
    """
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, sha256(read_regular(path))]


def _changed_header(headers: Mapping[str, list[Any]]) -> str | None:
    """Return why a recorded header is no longer the same, ``None`` if all are; contents decide."""
    for path, mark in headers.items():
        try:
            facts = os.stat(path)  # noqa: PTH116 - thousands of them for a torch extension
            if [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns] == mark[:3]:
                continue
            if sha256(read_regular(Path(path))) != mark[3]:
                return f"the header {path} has changed since the build."
        except (OSError, ValueError) as error:
            return f"the header {path} can no longer be read: {error}."
    return None
