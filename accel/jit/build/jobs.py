"""The number of compilers to run at a time, by MAX_JOBS, affinity and control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from accel import environment

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
        ValueError: ``MAX_JOBS`` is no positive number.
    """
    limits = [steps, environment.max_jobs() or steps, _affinity()]
    memory = _available_memory(proc)
    for cgroup in _cgroups(proc):
        limits += _cpu_limit(cgroup)
        limits += [left // _PIDS_PER_JOB for left in _left(cgroup, "pids.max", "pids.current")]
        cached = _reclaimable(cgroup)
        for names in _MEMORY:
            memory += [left + cached for left in _left(cgroup, *names)]
    limits += [left // bytes_per_job for left in memory]
    return max(1, min(limits))


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _cgroups(proc: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups, each with the ones above it.

    Both versions: ``/proc/self/cgroup`` names the group, ``mountinfo`` where its tree is mounted
    (cgroups(7), proc(5)).
    """
    mounts = list(_mounts(proc))
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for kind, options, root, mount in mounts:
            wanted = kind == "cgroup2" if number == "0" else kind == "cgroup"
            if wanted and (number == "0" or set(controllers.split(",")) & options):
                # A container sees its own group as the mount's root.
                inside = os.path.relpath(group, root) if group.startswith(root) else "."
                yield from _upwards(mount, mount / inside)


def _upwards(mount: Path, folder: Path) -> Iterator[Path]:
    while True:
        if folder.is_dir():
            yield folder
        if folder == mount or mount not in folder.parents:
            return
        folder = folder.parent


def _mounts(proc: Path) -> Iterator[tuple[str, set[str], str, Path]]:
    for line in _text(proc / "self" / "mountinfo").splitlines():
        fields, _, tail = line.partition(" - ")
        words, ends = fields.split(), tail.split()
        if len(words) > 4 and len(ends) > 2 and ends[0] in {"cgroup", "cgroup2"}:
            point = words[4].encode().decode("unicode_escape")
            yield ends[0], set(ends[2].split(",")), words[3], Path(point)


def _cpu_limit(cgroup: Path) -> list[int]:
    """Return the whole processors that the group's CPU quota amounts to."""
    words = _text(cgroup / "cpu.max").split() or [
        _text(cgroup / "cpu.cfs_quota_us").strip(),
        _text(cgroup / "cpu.cfs_period_us").strip(),
    ]
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
        return [max(1, -(-int(words[0]) // int(words[1])))]
    return []


def _left(cgroup: Path, limit: str, used: str) -> list[int]:
    most, now = _text(cgroup / limit).strip(), _text(cgroup / used).strip()
    return [int(most) - int(now)] if most.isdigit() and now.isdigit() else []


def _reclaimable(cgroup: Path) -> int:
    """Return the bytes of cached files that the kernel can reclaim."""
    facts = dict(line.split(" ", 1) for line in _text(cgroup / "memory.stat").splitlines() if line)
    text = facts.get("inactive_file", facts.get("total_inactive_file", "0"))
    return int(text) if text.isdigit() else 0


def _available_memory(proc: Path) -> list[int]:
    for line in _text(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable" and rest.split()[0].isdigit():
            return [int(rest.split()[0]) * 1024]
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
