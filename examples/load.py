"""The processors' time during a run: this process's, and that of other processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_CROWDED = 0.9
_NOTICEABLE = 0.1


def busy_seconds(text: str, cpus: set[int]) -> float | None:
    """Return how long `cpus` have worked since boot, from the text of ``/proc/stat``.

    ``None`` if it does not list one of them.
    """
    rows = {row.split()[0]: row.split()[1:] for row in text.splitlines() if row.startswith("cpu")}
    ticks = 0
    for cpu in cpus:
        fields = [int(field) for field in rows.get(f"cpu{cpu}", [])]
        if len(fields) < 5:
            return None
        # Idle time and waiting for disks are not work; a guest's time is in the user's already.
        ticks += sum(fields[:8]) - fields[3] - fields[4]
    return ticks / os.sysconf("SC_CLK_TCK")


def hint(own: float, others: float, cpus: int) -> str:
    """Return a sentence if other processes took processors that this one waited for, else ``""``.

    Args:
        own: processors that this process kept busy, on average.
        others: those that all others did.
        cpus: how many there are.
    """
    if own + others < _CROWDED * cpus or others < _NOTICEABLE * cpus:
        return ""
    return (
        f"other processes kept {others:.1f} of {cpus} CPUs busy, this one {own:.1f}: it would be "
        "faster alone"
    )


class Load:
    """Counts from its creation."""

    def __init__(self) -> None:
        self._began = self._now()

    def hint(self) -> str:
        """Return what `hint` says of the time since then; ``""`` where it cannot be known."""
        wall, own, busy = (now - then for now, then in zip(self._now(), self._began, strict=True))
        cpus = len(_cpus())
        if not wall or not busy:
            return ""
        return hint(own / wall, max(0.0, busy - own) / wall, cpus)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = os.times()
        try:
            busy = busy_seconds(_STAT.read_text(), _cpus())
        except OSError:
            busy = None
        own = times.user + times.system + times.children_user + times.children_system
        return time.perf_counter(), own, busy or 0.0


def _cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
