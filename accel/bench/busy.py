"""The CPU time that other processes took during a measurement, and what that makes of figures."""

from __future__ import annotations

import os
import time
from typing import Any

from accel.host import processors

# The part of the CPUs above which other processes decide what is measured.
_QUIET = 0.1
# Idle time, and on Linux that of guests, which is also in user and nice.
_NOT_COUNTED = frozenset({"idle", "iowait", "guest", "guest_nice"})


class Watch:
    """A clock of all CPU time that is not this process's; it starts when it is made."""

    def __init__(self) -> None:
        self._load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
        self._cpus = processors.usable()
        self._began = time.perf_counter()
        self._others = self._taken()

    def facts(self) -> dict[str, Any]:
        """Return the load before, and how many CPUs other processes used since."""
        passed = time.perf_counter() - self._began
        others = (self._taken() - self._others) / passed
        # The kernel counts in ticks, so that a short time can come out below zero.
        return {"load": self._load, "others": round(max(0.0, others), 2)}

    def _taken(self) -> float:
        """Return the seconds of work on our CPUs, less those of this process and its children."""
        import psutil

        every = psutil.cpu_times(percpu=True)
        own = psutil.Process().cpu_times()
        taken = 0.0
        for one in (every[cpu] for cpu in self._cpus if cpu < len(every)):
            taken += sum(
                seconds for name, seconds in one._asdict().items() if name not in _NOT_COUNTED
            )
        return taken - float(own.user + own.system + own.children_user + own.children_system)


def note(results: dict[str, Any]) -> str:
    """Return a sentence if the machine was busy with other work, ``""`` if it was quiet."""
    others, cpus = results.get("others") or 0.0, results.get("cpus") or 1
    if others <= _QUIET * cpus:
        return ""
    load = results.get("load")
    before = "" if load is None else f", load {load:.1f} before"
    return (
        f"other processes used {others:.1f} of {cpus} CPUs meanwhile{before}: these medians are "
        "noise, and not comparable with other results. Measure again on a quiet machine."
    )
