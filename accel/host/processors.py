"""Processors that this process may use: by affinity, CPU quota, NUMA node and physical core."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_NODES = Path("/sys/devices/system/node")
_CPUS = Path("/sys/devices/system/cpu")
_PCI = Path("/sys/bus/pci/devices")


def usable() -> frozenset[int]:
    """Return the numbers of the CPUs that this thread may run on."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:
        return frozenset(range(os.cpu_count() or 1))


def quota(proc: Path = Path("/proc")) -> int | None:
    """Return the whole CPUs that the control groups' quotas amount to; ``None`` without a quota."""
    return min(
        (limit for group in control_groups(proc) for limit in cpu_limit(group)), default=None
    )


def cores(cpus: frozenset[int], folder: Path = _CPUS) -> int:
    """Return how many physical cores `cpus` are: hyper-threads of one core count once."""
    siblings = {
        text_of(folder / f"cpu{cpu}/topology/thread_siblings_list").strip() or str(cpu)
        for cpu in cpus
    }
    return len(siblings)


def nodes(cpus: frozenset[int], folder: Path = _NODES) -> list[frozenset[int]]:
    """Return `cpus` by NUMA node, in the nodes' order; all of them if the kernel names no node."""
    return [own for _, own in _numbered(cpus, folder)] or [cpus]


def _numbered(cpus: frozenset[int], folder: Path) -> list[tuple[int, frozenset[int]]]:
    """Return the nodes that have some of `cpus`, each with its number, in order."""
    found = sorted(
        (int(path.name.removeprefix("node")), _numbers(text_of(path / "cpulist")) & cpus)
        for path in folder.glob("node[0-9]*")
    )
    return [(number, own) for number, own in found if own]


def beside(
    addresses: Sequence[str], cpus: frozenset[int], pci: Path = _PCI, folder: Path = _NODES
) -> list[frozenset[int]]:
    """Return for each PCI device those of `cpus` that are on its NUMA node.

    Empty if that is not known of every device, or if one's node has none of `cpus`.

    Args:
        addresses: as in sysfs, such as ``"0000:3b:00.0"``.
        cpus: the CPUs to choose from.
        pci: sysfs's folder of PCI devices.
        folder: its folder of nodes.
    """
    by_number = {str(number): own for number, own in _numbered(cpus, folder)}
    found = [
        by_number.get(text_of(pci / address / "numa_node").strip(), frozenset())
        for address in addresses
    ]
    return found if all(found) else []


def share(rank: int, ranks: int, nodes: list[frozenset[int]]) -> frozenset[int]:
    """Return the CPUs for one of several processes: those of its NUMA node.

    Neighbouring ranks share a node; a rank gets several nodes if there are more nodes than ranks.
    """
    first = rank * len(nodes) // ranks
    last = max(first + 1, (rank + 1) * len(nodes) // ranks)
    return frozenset().union(*nodes[first:last])


def _numbers(text: str) -> frozenset[int]:
    """Return the numbers of a list such as ``0-3,8``."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def control_groups(proc: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups, each with the ones above it.

    Both versions: ``/proc/self/cgroup`` names the group, ``mountinfo`` where its tree is mounted
    (cgroups(7), proc(5)).
    """
    mounts = list(_mounts(proc))
    for line in text_of(proc / "self" / "cgroup").splitlines():
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
    for line in text_of(proc / "self" / "mountinfo").splitlines():
        fields, _, tail = line.partition(" - ")
        words, ends = fields.split(), tail.split()
        if len(words) > 4 and len(ends) > 2 and ends[0] in {"cgroup", "cgroup2"}:
            point = words[4].encode().decode("unicode_escape")
            yield ends[0], set(ends[2].split(",")), words[3], Path(point)


def cpu_limit(cgroup: Path) -> list[int]:
    """Return the whole processors that the group's CPU quota amounts to, if it has one."""
    words = text_of(cgroup / "cpu.max").split() or [
        text_of(cgroup / "cpu.cfs_quota_us").strip(),
        text_of(cgroup / "cpu.cfs_period_us").strip(),
    ]
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
        return [max(1, -(-int(words[0]) // int(words[1])))]
    return []


def text_of(path: Path) -> str:
    """Return a file's text, ``""`` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
