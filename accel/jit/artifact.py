"""An artifact on disk: a library beside a manifest that says what it is and its checksum."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel.jit.files import read_regular, sha256
from accel.jit.location import ours
from accel.jit.recipe import ENGINE, libc
from accel.probe import Rejected
from accel.value import Value

MANIFEST = "manifest.json"
LOG = "build.log"
_MOST_MANIFEST = 32 << 20
_TEXTS = ("name", "backend", "fit", "base", "digest", "engine", "sha256", "glibc")


class Artifact(Value):
    """A library whose manifest and checksum were found right.

    Attributes:
        folder: holds the library, `MANIFEST` and the build's log.
        library: the file to load.
        manifest: what was recorded when it was built.
    """

    folder: Path
    library: Path
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Digest of the plan that it was built from."""
        text: str = self.manifest["digest"]
        return text


def read_manifest(folder: Path) -> Mapping[str, Any] | Rejected:
    """Return a folder's manifest, or why it cannot be believed; the library is not looked at."""
    try:
        data = json.loads(read_regular(folder / MANIFEST, limit=_MOST_MANIFEST, follow=False))
    except (OSError, ValueError, RecursionError) as error:
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
        folder: where it should be.
        name: stem of the library.
        private: whether it lies in the user's own cache, where only this user may write.
    """
    try:
        facts = os.lstat(folder)
    except OSError:
        return Rejected("nothing cached for this digest.")
    if not stat.S_ISDIR(facts.st_mode):
        return Rejected(f"{folder} is not a folder.")
    if (private and not ours(facts)) or facts.st_mode & stat.S_IWOTH:
        return Rejected(f"others may write {folder}.")
    manifest = read_manifest(folder)
    if isinstance(manifest, Rejected):
        return manifest
    if manifest["name"] != name:
        return Rejected(f"{folder} holds {manifest['name']!r}, not {name!r}.")
    wrong = _wrong_bytes(folder / f"{name}.so", manifest, private) or _wrong_machine(manifest)
    if wrong is None and private:
        # Elsewhere the headers lie elsewhere; what they belong to is part of the fit.
        wrong = _changed_header(manifest["headers"])
    if wrong is not None:
        return Rejected(wrong)
    return Artifact(folder, folder / f"{name}.so", manifest)


def _right_types(data: Mapping[str, Any]) -> bool:
    """Whether the parts of a manifest that are not texts are what the engine writes."""
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


def _wrong_bytes(library: Path, manifest: Mapping[str, Any], private: bool) -> str | None:
    try:
        facts = os.lstat(library)
        if private and not ours(facts):
            return f"others may write {library}."
        data = read_regular(library, follow=False)
    except OSError as error:
        return f"{library} cannot be read: {error.strerror}."
    if len(data) != manifest["size"]:
        return f"{library} has {len(data)} bytes, its manifest says {manifest['size']}."
    if sha256(data) != manifest["sha256"]:
        return f"{library} does not match the checksum in its manifest."
    return None


def _wrong_machine(manifest: Mapping[str, Any]) -> str | None:
    family, version = libc()
    needed = manifest["glibc"]
    if family == "glibc" and _numbers(needed) > _numbers(version):
        return f"it needs glibc {needed}, here is {version}."
    return None


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:4]
    return tuple(int(part[:9]) for part in parts if part.isascii() and part.isdigit())


def header_mark(path: Path) -> list[Any]:
    """Return what recognises a header: size, times of change, and the hash of its contents.

    Raises `OSError` where it cannot be read.
    """
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, sha256(read_regular(path))]


def _changed_header(headers: Mapping[str, list[Any]]) -> str | None:
    """Return which recorded header is no longer what it was; contents decide, not times."""
    for path, mark in headers.items():
        try:
            facts = os.stat(path)  # noqa: PTH116 - thousands of them for a torch extension
            if [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns] == mark[:3]:
                continue
            if sha256(read_regular(Path(path))) != mark[3]:
                return f"the header {path} has changed since."
        except (OSError, ValueError) as error:
            return f"the header {path} cannot be read any more: {error}."
    return None
