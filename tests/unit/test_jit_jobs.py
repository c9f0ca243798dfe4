"""The number of jobs under limits of both versions of control groups, told by files."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.jit.build import jobs
from accel.jit.build.jobs import job_count

GB = 1 << 30


class Machine:
    """A ``/proc`` and control groups in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proc = folder / "proc"
        self.write("proc/meminfo", f"MemTotal: 1 kB\nMemAvailable: {64 * GB // 1024} kB\n")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def version_2(self, group: str = "/job/step", root: str = "/") -> None:
        self.write("proc/self/cgroup", f"0::{group}\n")
        self.write(
            "proc/self/mountinfo",
            f"30 23 0:26 {root} {self.folder}/cgroup rw shared:9 - cgroup2 cgroup2 rw\n",
        )

    def version_1(self) -> None:
        self.write("proc/self/cgroup", "4:memory:/job\n3:cpu,cpuacct:/job\n2:pids:/job\n0::/\n")
        lines = [
            f"3{number} 23 0:26 / {self.folder}/{names} rw shared:9 - cgroup cgroup rw,{names}\n"
            for number, names in enumerate(("memory", "cpu,cpuacct", "pids"))
        ]
        self.write("proc/self/mountinfo", "".join(lines))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine of 32 processors without limits."""
    monkeypatch.setattr(jobs.processors, "usable", lambda: frozenset(range(32)))
    return Machine(tmp_path)


def count(machine: Machine, steps: int = 100, memory: int = GB) -> int:
    return job_count(steps, memory, proc=machine.proc)


def test_without_limits_affinity_and_steps_decide(machine: Machine) -> None:
    assert count(machine) == 32
    assert count(machine, steps=3) == 3
    assert count(machine, steps=0) == 1


def test_max_jobs(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_JOBS", "5")
    assert count(machine) == 5
    monkeypatch.setenv("MAX_JOBS", "64")
    assert count(machine) == 32


def test_available_memory(machine: Machine) -> None:
    assert count(machine, memory=16 * GB) == 4
    assert count(machine, memory=1000 * GB) == 1


@pytest.mark.parametrize("where", ["cgroup/job/step", "cgroup/job", "cgroup"])
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "250000 100000"}, 3),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 32),
        ({"memory.max": str(8 * GB), "memory.current": str(3 * GB)}, 5),
        (
            {
                "memory.max": str(8 * GB),
                "memory.current": str(7 * GB),
                "memory.stat": f"anon 1\ninactive_file {4 * GB}\n",
            },
            5,
        ),
        ({"memory.max": str(8 * GB), "memory.current": str(9 * GB)}, 1),
        ({"memory.max": "max", "memory.current": "1"}, 32),
        ({"pids.max": "100", "pids.current": "52"}, 6),
        ({"pids.max": "max", "pids.current": "52"}, 32),
        ({"pids.max": "nonsense", "cpu.max": "", "memory.max": "-1"}, 32),
    ],
)
def test_version_2(machine: Machine, where: str, files: dict[str, str], expected: int) -> None:
    machine.version_2()
    (machine.folder / "cgroup" / "job" / "step").mkdir(parents=True)
    for name, text in files.items():
        machine.write(f"{where}/{name}", text)
    assert count(machine) == expected


def test_version_2_inside_a_container(machine: Machine) -> None:
    """The container's own group is the root of the mount."""
    machine.version_2(group="/", root="/docker/abc")
    machine.write("cgroup/cpu.max", "200000 100000")
    assert count(machine) == 2
    machine.version_2(group="/docker/abc/inner", root="/docker/abc")
    machine.write("cgroup/inner/cpu.max", "100000 100000")
    assert count(machine) == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "400000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 32),
        (
            {
                "memory/job/memory.limit_in_bytes": str(8 * GB),
                "memory/job/memory.usage_in_bytes": str(2 * GB),
            },
            6,
        ),
        (
            {
                "memory/job/memory.limit_in_bytes": str(8 * GB),
                "memory/job/memory.usage_in_bytes": str(6 * GB),
                "memory/job/memory.stat": f"total_inactive_file {2 * GB}\n",
            },
            4,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "1",
            },
            32,
        ),
        ({"pids/job/pids.max": "40", "pids/job/pids.current": "8"}, 4),
    ],
)
def test_version_1(machine: Machine, files: dict[str, str], expected: int) -> None:
    machine.version_1()
    for folder in ("memory/job", "cpu,cpuacct/job", "pids/job"):
        (machine.folder / folder).mkdir(parents=True)
    for name, text in files.items():
        machine.write(name, text)
    assert count(machine) == expected


@pytest.mark.parametrize("text", ["", "garbage\n", "0::\n", "x:y:z\n", "0::/../../..\n"])
def test_an_odd_proc_limits_nothing(machine: Machine, text: str) -> None:
    machine.version_2()
    machine.write("proc/self/cgroup", text)
    assert count(machine) == 32
    machine.write("proc/self/mountinfo", text)
    machine.write("proc/meminfo", text)
    assert count(machine) == 32


def test_this_machine() -> None:
    assert job_count(4, 1 << 20) >= 1
