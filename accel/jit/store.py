"""The cache on disk: finding artifacts, staging new ones, publishing them, remembering failures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from accel.errors import BuildFailed
from accel.jit import location
from accel.jit.artifact import Artifact, read_manifest, verify
from accel.jit.files import read_regular, write_atomic
from accel.jit.lock import BuildLock
from accel.jit.recipe import Fit, Recipe
from accel.probe import Rejected

STAGING, LOCKS, FAILED = ".staging", ".locks", ".failed"


def find(name: str, digest: str) -> Artifact | Rejected:
    """Return the cached artifact of a plan, or why there is none; raises `CacheUntrusted`."""
    refusal = Rejected("nothing cached for this digest.")
    for root in location.locate().readable:
        found = verify(root / f"{name}-{digest}", name)
        if isinstance(found, Artifact):
            return found
        refusal = found
    return refusal


def find_fitting(recipe: Recipe, fit: Fit, folder: Path, *, private: bool) -> Artifact | Rejected:
    """Return an artifact in `folder` that fits the recipe, whatever compiler made it."""
    refusals = []
    for candidate in folders_of(recipe.name, folder):
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
        elif recipe.language == "cuda" and (lack := _missing_device(manifest["targets"])):
            refusals.append(f"{candidate.name}: {lack}.")
        else:
            found = verify(candidate, recipe.name, private=private)
            if isinstance(found, Artifact):
                return found
            refusals.append(found.reason)
    return Rejected(" ".join(refusals) or f"{folder} holds no {recipe.name} for {recipe.backend}.")


def _missing_device(targets: list[str]) -> str | None:
    from accel.jit.cuda import missing_device

    return missing_device(targets)


def folders_of(name: str, folder: Path) -> list[Path]:
    """Return the folders that may hold artifacts of that name, newest first; never raises."""
    try:
        found = [(entry.stat().st_mtime, Path(entry)) for entry in _entries(folder, f"{name}-")]
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]


def _entries(folder: Path, start: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (
            entry
            for entry in entries
            if entry.name.startswith(start)
            and len(entry.name) == len(start) + 32
            and entry.is_dir(follow_symlinks=False)
        )


def _differing(manifest: Mapping[str, Any], fit: Fit) -> str:
    old = manifest["ingredients"]
    names = [name for name, value in fit.ingredients.items() if old.get(name) != value]
    gone = [name for name in old if name.startswith("file ") and name not in fit.ingredients]
    return "differs in " + ", ".join(names + gone) if names or gone else "recorded otherwise"


def new_staging(root: Path) -> Path:
    """Create a private folder named by host, process and chance; raises `OSError`."""
    parent = root / STAGING
    parent.mkdir(mode=0o700, exist_ok=True)
    folder = parent / f"{host()}-{os.getpid()}-{start_time(os.getpid())}-{os.urandom(4).hex()}"
    folder.mkdir(mode=0o700)
    return folder


def lock_of(root: Path, stem: str) -> BuildLock:
    """Return the lock of who builds the artifact of that name, or removes it."""
    return BuildLock(root / LOCKS / f"{stem}.lock")


def host() -> str:
    """Return this machine's name and process namespace, which process ids belong to."""
    name = "".join(letter if letter.isalnum() else "_" for letter in os.uname().nodename)
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return f"{name[:64]}-{space}"


def start_time(pid: int) -> int:
    """Return when a process began, in clock ticks since boot; 0 where there is none (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
        return int(text.rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def is_live(name: str) -> bool:
    """Return whether a staging folder's name tells of a process that runs on this machine."""
    whose, _, _ = name.rpartition("-")
    whose, _, began = whose.rpartition("-")
    whose, _, pid = whose.rpartition("-")
    if whose != host() or not (pid + began).isdigit():
        return False
    return start_time(int(pid)) == int(began)


def publish(ready: Path, target: Path, name: str, *, private: bool = True) -> Path:
    """Move a finished folder to its place at once, and return where the artifact is now.

    Whoever comes second uses the first one's; what is there and broken is moved out of the way.
    Where neither can be done the artifact stays in `ready`.
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
        target.rename(aside)
    except OSError:
        return  # Somebody else did, or the next rename tells.


class Failure(NamedTuple):
    """Where the record of a failed build lies and which attempt it tells of."""

    path: Path
    stamp: tuple[int, int] | None

    @staticmethod
    def look(root: Path, stem: str) -> Failure:
        """Return the state of the record as it is now."""
        path = root / FAILED / f"{stem}.json"
        try:
            facts = path.stat()
        except OSError:
            return Failure(path, None)
        return Failure(path, (facts.st_ino, facts.st_mtime_ns))

    def raise_if_newer(self, root: Path, stem: str) -> None:
        """Raise the `BuildFailed` of a build that failed since this look was taken."""
        now = Failure.look(root, stem)
        if now.stamp is None or now.stamp == self.stamp:
            return
        try:
            told = json.loads(read_regular(self.path, limit=1 << 20, follow=False))
            texts = {key: str(told[key]) for key in ("message", "command", "first_error")}
            log_path = told["log_path"]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return
        raise BuildFailed(
            texts["message"],
            log_path=log_path if isinstance(log_path, str) else None,
            command=texts["command"],
            first_error=texts["first_error"],
        )


def keep_log(root: Path, stem: str, text: bytes) -> str | None:
    """Keep the log of a failed build and return its path, or ``None`` where it cannot be kept."""
    path = root / FAILED / f"{stem}.log"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomic(path, text)
    except OSError:
        return None
    return str(path)


def keep_failure(root: Path, stem: str, error: BuildFailed) -> None:
    """Leave the error for those who wait for the same build."""
    told = {
        "message": str(error),
        "command": error.command,
        "first_error": error.first_error,
        "log_path": error.log_path,
    }
    try:
        (root / FAILED).mkdir(mode=0o700, exist_ok=True)
        write_atomic(root / FAILED / f"{stem}.json", json.dumps(told).encode())
    except OSError:
        return  # The waiters find out by building themselves.


def forget_failure(root: Path, stem: str) -> None:
    """Remove the record of an earlier failure."""
    for suffix in (".json", ".log"):
        try:
            (root / FAILED / f"{stem}{suffix}").unlink(missing_ok=True)
        except OSError:
            continue
