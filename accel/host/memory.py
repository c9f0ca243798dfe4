"""Memory of this process and of the host that it may use, in bytes."""

from __future__ import annotations

import ctypes
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_CGROUPS = Path("/sys/fs/cgroup")
# Written to clear_refs, it makes the kernel restart the peak of the resident set from now.
_RESET_PEAK = "5"


class ResidentSet:
    """Physical memory that this process occupies (its resident set), now and at its peak.

    The kernel keeps the peak (``VmHWM``) and restarts it on request. If it cannot (no ``/proc``,
    or a read-only one) the peak is the most that was seen by calls of `usage` since the reset, or
    the first call.
    """

    def __init__(self, status: Path = _STATUS, clear_refs: Path = _CLEAR_REFS) -> None:
        self._status = status
        self._clear_refs = clear_refs
        self._most_seen: int | None = None

    def usage(self) -> tuple[int, int]:
        """Return bytes now and at the peak; the peak is never below the bytes now."""
        now, peak = self._measure()
        # No lock, which a forked child could inherit held: a race loses one sample at most.
        if peak is None or self._most_seen is not None:
            peak = self._most_seen = max(now, self._most_seen or 0)
        return now, max(now, peak)

    def reset_peak(self) -> None:
        """Restart the peak from the current use."""
        try:
            self._clear_refs.write_text(_RESET_PEAK, encoding="ascii")
            most_seen = None
        except OSError:
            most_seen = self._measure()[0]
        self._most_seen = most_seen

    def _measure(self) -> tuple[int, int | None]:
        try:
            lines = self._status.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            import psutil

            return int(psutil.Process().memory_info().rss), None
        kib = {line.partition(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
        peak = int(kib["VmHWM"]) * 1024 if "VmHWM" in kib else None
        return int(kib["VmRSS"]) * 1024, peak


def total() -> int:
    """Return the most bytes that this process may use, of the host or of its control group."""
    import psutil

    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in control_groups())])


def available() -> int:
    """Return the bytes available without swapping, in the host and in the control group."""
    import psutil

    room = [max(0, limit - used) for limit, used in control_groups()]
    return min([int(psutil.virtual_memory().available), *room])


def control_groups(
    root: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")
) -> list[tuple[int, int]]:
    """Return limit and use, in bytes, of each control group that limits this process's memory.

    File cache that the kernel can drop is not counted as used. Versions 1 and 2 are read.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[tuple[int, int]] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _limits(root, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            found += _limits(
                root / "memory",
                path,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
    return found


def _limits(root: Path, path: str, limit: str, used: str, cache: str) -> list[tuple[int, int]]:
    """Read the group at `path` and those above it; one that is not mounted here has no limit."""
    folder = root / path.lstrip("/")
    found: list[tuple[int, int]] = []
    for group in (folder, *folder.parents):
        if group != root and root not in group.parents:
            break
        limit_text, used_text = _read(group / limit), _read(group / used)
        if limit_text.isdigit() and used_text.isdigit():
            stat = dict(row.split(" ", 1) for row in _read(group / "memory.stat").splitlines())
            dropped = int(stat.get(cache, "0"))
            found.append((int(limit_text), max(0, int(used_text) - dropped)))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def trim() -> None:
    """Ask the C library to return free memory to the system, if it can."""
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(ctypes.c_size_t(0))
