"""The number of compilers to run at a time, by MAX_JOBS, affinity and control groups."""

from __future__ import annotations

from pathlib import Path

from accel import environment
from accel.host import processors
from accel.host.processors import text_of

_PIDS_PER_JOB = 8
_MEMORY = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def job_count(steps: int, bytes_per_job: int, *, proc: Path = Path("/proc")) -> int:
    """Return the number of compilers to run at a time, at least 1.

    Args:
        steps: the number of steps that could run at a time.
        bytes_per_job: memory that one compiler may need.
        proc: the folder of the kernel's process files.

    Raises:
        ValueError: ``MAX_JOBS`` is not a positive number.
    """
    limits = [steps, environment.max_jobs() or steps, len(processors.usable())]
    memory = _available_memory(proc)
    for cgroup in processors.control_groups(proc):
        limits += processors.cpu_limit(cgroup)
        limits += [left // _PIDS_PER_JOB for left in _left(cgroup, "pids.max", "pids.current")]
        cached = _reclaimable(cgroup)
        for names in _MEMORY:
            memory += [left + cached for left in _left(cgroup, *names)]
    limits += [left // bytes_per_job for left in memory]
    return max(1, min(limits))


def _left(cgroup: Path, limit: str, used: str) -> list[int]:
    most, now = text_of(cgroup / limit).strip(), text_of(cgroup / used).strip()
    return [int(most) - int(now)] if most.isdigit() and now.isdigit() else []


def _reclaimable(cgroup: Path) -> int:
    """Return the bytes of cached files that the kernel can reclaim."""
    facts = dict(
        line.split(" ", 1) for line in text_of(cgroup / "memory.stat").splitlines() if line
    )
    text = facts.get("inactive_file", facts.get("total_inactive_file", "0"))
    return int(text) if text.isdigit() else 0


def _available_memory(proc: Path) -> list[int]:
    for line in text_of(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable" and rest.split()[0].isdigit():
            return [int(rest.split()[0]) * 1024]
    return []
