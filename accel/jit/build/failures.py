"""Records of failed builds in the cache, for processes that wait for them or come later."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from accel.errors import BuildFailed
from accel.jit.cache.store import FAILED
from accel.jit.disk import location
from accel.jit.disk.safe_io import make_private, read_regular, write_atomic
from accel.jit.tools.programs import stamp, which

_KEPT_S = 24 * 3600.0
_MOST_FILES = 200
_NAMED = re.compile(r"(?<![\w.=/-])/[^\s:'\"`‘’()<>\[\],;]+")


class Failure(NamedTuple):
    """A failed build's record: its path, and the attempt that it belongs to."""

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
        """Raise the `BuildFailed` of a build that has failed since this record was read."""
        now = Failure.look(root, stem)
        if now.stamp is None or now.stamp == self.stamp:
            return
        record = _read(self.path)
        if record is not None:
            raise _error(record)


def certain(roots: tuple[Path, ...], stem: str) -> BuildFailed | None:
    """Return the error of a build that is certain to fail again, else ``None``.

    A record counts for a day, and until a file that the tools named, or one of them, changes.
    """
    for root in roots:
        path = root / FAILED / f"{stem}.json"
        record = _read(path)
        if (
            record is None
            or not record["certain"]
            or not -60 < time.time() - record["time"] < _KEPT_S
        ):
            continue
        if any(stamp(file) != mark for file, mark in record["files"].items()):
            continue
        error = _error(record)
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["time"]))
        again = f"Not tried again: nothing has changed since {when}. Remove {path} to try anyway."
        return BuildFailed(f"{error}\n  {again}", **(vars(error)))
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record of the cache, ``None`` if there is no valid one."""
    try:
        if not location.ours(path.stat()):
            return None
        record = json.loads(read_regular(path, limit=1 << 20, follow=False))
        kinds: dict[str, type | tuple[type, ...]] = {
            "message": str,
            "command": str,
            "first_error": str,
            "certain": bool,
            "time": (int, float),
            "files": dict,
        }
        sound = all(isinstance(record[name], kind) for name, kind in kinds.items())
        sound = sound and isinstance(record["log_path"], str | None)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if sound else None


def _error(record: dict[str, Any]) -> BuildFailed:
    names = ("log_path", "command", "first_error", "certain")
    return BuildFailed(record["message"], **{name: record[name] for name in names})


def keep_log(root: Path, stem: str, text: bytes) -> str | None:
    """Keep the log of a failed build and return its path, or ``None`` if it cannot be kept."""
    path = root / FAILED / f"{stem}.log"
    try:
        make_private(path.parent, exist_ok=True)
        write_atomic(path, text)
    except OSError:
        return None
    return str(path)


def keep_failure(root: Path, stem: str, error: BuildFailed) -> None:
    """Record the error for processes that wait for the same build, and for later ones."""
    record = {
        "message": str(error),
        "command": error.command,
        "first_error": error.first_error,
        "log_path": error.log_path,
        "certain": error.certain,
        "time": time.time(),
        "files": {file: stamp(file) for file in _decisive(root, error)},
    }
    try:
        make_private(root / FAILED, exist_ok=True)
        write_atomic(root / FAILED / f"{stem}.json", json.dumps(record).encode())
    except OSError:
        return  # Waiting processes find out by building it themselves.


def _decisive(root: Path, error: BuildFailed) -> Iterator[str]:
    """Yield files outside the digest that may cause a failure: tools, and files that they named.

    For instance, only the linker names a static library that was compiled wrongly.
    """
    if not error.certain or error.log_path is None:
        return
    yield from filter(None, (which("ld"), which("as")))
    try:
        log = read_regular(error.log_path).decode("utf-8", "replace")
    except OSError:
        return
    named = dict.fromkeys(os.path.normpath(path) for path in _NAMED.findall(log))
    files = [path for path in named if not path.startswith(f"{root}/") and os.path.isfile(path)]  # noqa: PTH113
    yield from files[:_MOST_FILES]


def forget_failure(root: Path, stem: str) -> None:
    """Remove the record of an earlier failure."""
    for suffix in (".json", ".log"):
        try:
            (root / FAILED / f"{stem}{suffix}").unlink(missing_ok=True)
        except OSError:
            continue
