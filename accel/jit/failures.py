"""Failed builds: what is left in the cache for those who wait for the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from accel.errors import BuildFailed
from accel.jit.files import read_regular, write_atomic
from accel.jit.store import FAILED


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
