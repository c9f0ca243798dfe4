"""Maintenance of the cache: listing, verifying and pruning it."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from accel.host.process import machine
from accel.jit.cache import store
from accel.jit.cache.artifact import Artifact, read_manifest, verify
from accel.jit.disk import location
from accel.jit.disk.lock import BuildLock
from accel.jit.disk.safe_io import remove_tree
from accel.probe import Probe, Rejected

_FOREIGN_STAGING_S = 24 * 3600.0
_HIDDEN = (store.STAGING, store.LOCKS, store.FAILED, ".toolchains")


@dataclass(frozen=True, slots=True)
class Entry:
    """An artifact's folder in the cache.

    Attributes:
        name: stem of the artifact.
        backend: the backend that it is for, ``""`` if the manifest is not valid.
        digest: digest of the plan that it was built from, from the folder's name.
        folder: its path.
        size: bytes on disk of the folder's files.
        created: when it was built, in seconds since 1970.
        used: when it was last read as far as the file system records it, in seconds since 1970.
        trouble: why it would be built again, ``""`` if its manifest is sound.
    """

    name: str
    backend: str
    digest: str
    folder: Path
    size: int
    created: float
    used: float
    trouble: str


@dataclass(frozen=True, slots=True)
class Removal:
    """Something that `prune` removed or would remove: path, bytes and reason."""

    path: Path
    size: int
    reason: str


def entries() -> tuple[Entry, ...]:
    """Return the cached artifacts, most recently used first; raises `CacheUntrusted`."""
    found = [entry for root in location.locate().readable for entry in _entries(root)]
    return tuple(sorted(found, key=lambda entry: entry.used, reverse=True))


def verify_all() -> tuple[tuple[Entry, Probe], ...]:
    """Return every entry with the verdict of a full check, checksums included.

    Raises:
        CacheUntrusted: others may write the cache.
    """
    from accel.probe import Accepted

    checked: list[tuple[Entry, Probe]] = []
    for entry in entries():
        found = verify(entry.folder, entry.name)
        checked.append((entry, Accepted() if isinstance(found, Artifact) else found))
    return tuple(checked)


def prune(
    *,
    older_than: float | None = None,
    max_bytes: int | None = None,
    current: Collection[str] | None = None,
    dry_run: bool = False,
) -> tuple[Removal, ...]:
    """Prune the cache and return the removals.

    Always removes broken artifacts, leftovers of killed builds, locks that nobody holds, and
    records of failed builds that are a day old. Others may load and build at the same time: a
    running build stays, an artifact disappears by one rename, and a process that
    then does not find it builds it again.

    Args:
        older_than: remove artifacts not used for that many seconds.
        max_bytes: remove the least recently used until the rest is not larger.
        current: digests of the plans that are in use; remove all others.
        dry_run: remove nothing, only return what would be removed.

    Raises:
        CacheUntrusted: others may write the cache.
    """
    root = location.locate().path
    if not root.is_dir():
        return ()
    removals = _unwanted(list(_entries(root)), older_than, max_bytes, current)
    removals += [*_dead_staging(root), *_old_failures(root), *_free_locks(root)]
    if dry_run:
        return tuple(removals)
    return tuple(removal for removal in removals if _remove(root, removal.path))


def _unwanted(
    found: list[Entry],
    older_than: float | None,
    max_bytes: int | None,
    current: Collection[str] | None,
) -> list[Removal]:
    now = time.time()
    removals: list[Removal] = []
    kept: list[Entry] = []
    for entry in found:
        reason = entry.trouble
        if not reason and current is not None and entry.digest not in current:
            reason = "no known op uses it now."
        if not reason and older_than is not None and now - entry.used > older_than:
            reason = f"not used for {(now - entry.used) / 86400:.1f} days."
        if reason:
            removals.append(Removal(entry.folder, entry.size, reason))
        else:
            kept.append(entry)
    if max_bytes is not None:
        kept.sort(key=lambda entry: entry.used, reverse=True)
        total = 0
        for entry in kept:
            total += entry.size
            if total > max_bytes:
                reason = f"beyond the limit of {max_bytes} bytes."
                removals.append(Removal(entry.folder, entry.size, reason))
    return removals


def _entries(root: Path) -> Iterator[Entry]:
    for folder in _children(root):
        name, _, digest = folder.name.rpartition("-")
        if folder.name in _HIDDEN or not name or folder.is_symlink() or not folder.is_dir():
            continue
        manifest = read_manifest(folder)
        trouble = manifest.reason if isinstance(manifest, Rejected) else ""
        backend = "" if isinstance(manifest, Rejected) else manifest["backend"]
        created, used = _times(folder, name)
        yield Entry(name, backend, digest, folder, _size(folder), created, used, trouble)


def _times(folder: Path, name: str) -> tuple[float, float]:
    try:
        facts = (folder / f"{name}.so").stat()
    except OSError:
        return 0.0, 0.0
    return facts.st_mtime, max(facts.st_mtime, facts.st_atime)


def _dead_staging(root: Path) -> Iterator[Removal]:
    """Yield staging folders of dead processes, and those of other machines that are a day old."""
    for folder in _children(root / store.STAGING):
        if store.is_live(folder.name):
            continue
        if not folder.name.startswith(f"{machine()}-"):
            try:
                if time.time() - folder.stat().st_mtime < _FOREIGN_STAGING_S:
                    continue
            except OSError:
                continue
        yield Removal(folder, _size(folder), "left behind by a build that was ended.")


def _old_failures(root: Path) -> Iterator[Removal]:
    for file in _children(root / store.FAILED):
        try:
            facts = file.stat()
        except OSError:
            continue
        if time.time() - facts.st_mtime > _FOREIGN_STAGING_S:
            yield Removal(file, facts.st_size, "record of a failed build.")


def _free_locks(root: Path) -> Iterator[Removal]:
    for file in _children(root / store.LOCKS):
        lock = BuildLock(file)
        try:
            free = lock.acquire()
        except OSError:
            continue
        lock.release()
        if free:
            yield Removal(file, 0, "a lock that nobody holds.")


def _remove(root: Path, path: Path) -> bool:
    """Remove `path` unless it is a lock or artifact in use; return whether it is gone."""
    is_lock = path.parent == root / store.LOCKS
    if path.parent != root and not is_lock:
        return _take_away(root, path)
    lock = BuildLock(path) if is_lock else store.lock_of(root, path.name)
    try:
        if not lock.acquire():
            return False
    except OSError:
        # If locking does not work, a process that does not find the artifact builds it again.
        return not is_lock and _take_away(root, path)
    try:
        return is_lock or _take_away(root, path)
    finally:
        lock.remove()


def _take_away(root: Path, path: Path) -> bool:
    """Rename `path`, so that nobody finds it, then remove it; return whether it is gone."""
    if not path.is_dir() or path.is_symlink():
        try:
            path.unlink()
        except OSError:
            return False
        return True
    try:
        staging = store.new_staging(root)
    except OSError:
        return False
    try:
        store.move(path, staging / "gone")
    except OSError:
        return False
    finally:
        remove_tree(staging)
    return True


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _size(folder: Path) -> int:
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                total += (Path(parent) / file).lstat().st_size
            except OSError:
                continue
    return total
