"""The cache on disk: finding artifacts, staging new ones, publishing them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel.errors import CacheUntrusted
from accel.host.process import machine, start_time
from accel.jit.cache.artifact import Artifact, read_manifest, verify
from accel.jit.disk import location, trust
from accel.jit.disk.lock import BuildLock
from accel.jit.disk.safe_io import make_private
from accel.jit.recipe import Fit, Recipe
from accel.probe import Rejected

STAGING, LOCKS, FAILED = ".staging", ".locks", ".failed"
_refused: dict[Path, str] = {}
_COPY = "Copy it to a folder that only you can change."


def find(name: str, digest: str) -> Artifact | Rejected:
    """Return the cached artifact of a plan, or why there is none; raises `CacheUntrusted`.

    Warns once per process if others may change the user's own cache, which is then not searched,
    and if the artifact is in a folder that replaces an unusable cache.
    """
    refusal = Rejected("nothing cached for this digest.")
    place = location.locate()
    if place.avoided:
        location.say_once(place.note)
    for root in place.readable:
        found = verify(root / f"{name}-{digest}", name)
        if isinstance(found, Artifact):
            if place.note and root == place.path:
                location.say_once(place.note)
            return found
        refusal = found
    return refusal


def find_fitting(recipe: Recipe, fit: Fit, folder: Path, *, private: bool) -> Artifact | Rejected:
    """Return an artifact in `folder` that fits the recipe, whatever compiler made it.

    Never raises; a folder that others may change is not searched.
    """
    candidates = _look_into(folder, recipe.name)
    if isinstance(candidates, Rejected):
        return candidates
    refusals = []
    for candidate in candidates:
        manifest = read_manifest(candidate)
        if isinstance(manifest, Rejected):
            refusals.append(manifest.reason)
            continue
        if manifest["backend"] != recipe.backend:
            continue
        covers = manifest["base"] == fit.base and set(recipe.targets) <= set(manifest["targets"])
        if manifest["fit"] != fit.digest and not covers:
            refusals.append(f"{candidate.name} does not fit: {_differing(manifest, fit)}.")
        elif any(flag.startswith("-m") for flag in manifest["user_flags"]):
            refusals.append(f"{candidate.name} was built for one processor's instructions.")
        elif recipe.language == "cuda" and (lack := _cannot_run(manifest)):
            refusals.append(f"{candidate.name}: {lack}.")
        else:
            found = verify(candidate, recipe.name, private=private)
            if isinstance(found, Artifact):
                return found
            refusals.append(found.reason)
            if not private:
                _refused[candidate] = found.reason
    return Rejected(" ".join(refusals) or f"{folder} holds no {recipe.name} for {recipe.backend}.")


def _look_into(folder: Path, name: str) -> list[Path] | Rejected:
    try:
        trust.hold(folder).close()
        return _artifacts(name, folder)
    except FileNotFoundError:
        return Rejected(f"there is no folder {folder}.")
    except CacheUntrusted as error:
        refused = Rejected(f"{error} So nothing is loaded from {folder}.", _COPY)
    except OSError as error:
        refused = Rejected(f"{error.filename or folder} cannot be read: {error.strerror}.")
    _refused[folder] = str(refused)
    return refused


def warn_of_refused() -> None:
    """Warn once of each prebuilt folder or library that fits and may not be used."""
    for reason in _refused.values():
        location.say_once(f"prebuilt: {reason}")


def _cannot_run(manifest: Mapping[str, Any]) -> str | None:
    from accel.jit.tools.cuda_targets import cannot_run

    return cannot_run(manifest)


def folders_of(name: str, folder: Path) -> list[Path]:
    """Return the folders that may hold artifacts of that name, newest first; never raises."""
    try:
        return _artifacts(name, folder)
    except OSError:
        return []


def _artifacts(name: str, folder: Path) -> list[Path]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_artifact(entry, f"{name}-"):
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.stat().st_mtime, Path(entry)))
    return [path for _, path in sorted(found, reverse=True)]


def _is_artifact(entry: os.DirEntry[str], start: str) -> bool:
    named_so = entry.name.startswith(start) and len(entry.name) == len(start) + 32
    return named_so and entry.is_dir(follow_symlinks=False)


def _differing(manifest: Mapping[str, Any], fit: Fit) -> str:
    old = manifest["ingredients"]
    names = [name for name, value in fit.ingredients.items() if old.get(name) != value]
    gone = [name for name in old if name.startswith("file ") and name not in fit.ingredients]
    return "differs in " + ", ".join(names + gone) if names or gone else "recorded otherwise"


def new_staging(root: Path) -> Path:
    """Create a private folder named by host, process and a random part; raises `OSError`."""
    name = f"{machine()}-{os.getpid()}-{start_time(os.getpid())}-{os.urandom(4).hex()}"
    with trust.hold(root) as cache:
        cache.keep(STAGING)
    folder = root / STAGING / name
    make_private(folder)
    return folder


def lock_of(root: Path, stem: str) -> BuildLock:
    """Return the lock for building or removing the artifact of that name."""
    return BuildLock(root / LOCKS / f"{stem}.lock")


def is_live(name: str) -> bool:
    """Return whether a staging folder's name names a process that runs on this machine."""
    whose, _, _ = name.rpartition("-")
    whose, _, began = whose.rpartition("-")
    whose, _, pid = whose.rpartition("-")
    numbers = pid + began
    if whose != machine() or not (numbers.isascii() and numbers.isdigit()):
        return False
    return start_time(int(pid)) == int(began)


def publish(ready: Path, target: Path, name: str, *, private: bool = True) -> Path:
    """Publish a finished folder by one rename, and return where the artifact is now.

    If another process was first, its artifact is used; a broken one is moved out of the way. If
    neither works, the artifact stays in `ready`.
    """
    for attempt in range(3):
        try:
            ready.rename(target)
        except OSError:
            if isinstance(verify(target, name, private=private), Artifact):
                return target
            if attempt < 2:
                _move_away(target, ready.parent / f"broken-{attempt}")
        else:
            return target
    return ready


def _move_away(target: Path, aside: Path) -> None:
    try:
        move(target, aside)
    except OSError:
        return  # Another process did it, or the next rename fails.


def move(folder: Path, to: Path) -> None:
    """Move a folder of the cache to another one, also if an odd umask took rights to it.

    Raises `OSError`.
    """
    try:
        folder.rename(to)
    except PermissionError:
        if folder.is_symlink():
            raise
        folder.chmod(trust.PRIVATE)
        folder.rename(to)
