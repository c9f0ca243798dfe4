"""Bandwidth of files: accel beside fio (io_uring) and DeepSpeed, in turns, on one file each.

    python benchmarks/io.py [--folder DIR] [--size MiB] [--rounds N] [--block KiB] [--depth N]

Every party reads and writes the same bytes with the same block and depth, in an order that is
shuffled each round; the table has medians, in MiB/s, and the ratio to fio within rounds. Parties
that are missing are left out: fio if it is not installed, DeepSpeed if its op does not build.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MIB = 1 << 20
Party = Callable[[Path, bool], float]


def module_party(module: Any, size: int, block: int, depth: int, threads: int) -> Party:
    """Return a party by a module with an aio_handle: seconds of all transfers and their wait.

    They share memory for one queue of requests, as fio's do: it may fit the processor's cache.
    """
    handle = module.aio_handle(block, depth, False, True, threads)
    part = min(block * depth * threads, size)
    buffer = handle.new_cpu_locked_tensor(part, torch.empty(0, dtype=torch.uint8))
    buffer.fill_(7)

    def run(path: Path, write: bool) -> float:
        start = time.perf_counter()
        for at in range(0, size, part):
            (handle.async_pwrite if write else handle.async_pread)(buffer, str(path), at)
        handle.wait()
        return time.perf_counter() - start

    return run


def fio_party(size: int, block: int, depth: int, direct: bool) -> Party:
    """Return fio as a party: the seconds that it reports for its job."""

    def run(path: Path, write: bool) -> float:
        command = ["fio", "--name=x", f"--filename={path}", f"--rw={'write' if write else 'read'}",
                   f"--bs={block}", f"--iodepth={depth}", f"--size={size}", "--ioengine=io_uring",
                   f"--direct={int(direct)}", "--output-format=json", "--fallocate=none",
                   "--overwrite=1", "--invalidate=0"]  # fmt: skip
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        job = json.loads(told[told.index("{") :])["jobs"][0]["write" if write else "read"]
        return float(size / job["bw_bytes"])

    return run


def parties(size: int, block: int, depth: int, threads: int, direct: bool) -> dict[str, Party]:
    """Return everybody who is here, accel first."""
    from accel.builders.lookup import find_builder

    op = find_builder("AsyncIOBuilder", "accel.builders.cpu", "cpu")().load()
    found = {"accel": module_party(op, size, block, depth, threads)}
    if shutil.which("fio"):
        found["fio"] = fio_party(size, block, depth, direct)
    try:
        from deepspeed.ops.op_builder import AsyncIOBuilder

        if not AsyncIOBuilder().is_compatible():
            raise RuntimeError("libaio or its headers are missing")
        found["DeepSpeed"] = module_party(AsyncIOBuilder().load(), size, block, depth, threads)
    except Exception as error:
        print(f"DeepSpeed is left out: {error}")
    return found


def measure(found: dict[str, Party], folder: Path, rounds: int) -> None:
    """Print a table of medians, in MiB/s, and of ratios to fio, or else to the last party."""
    times: dict[tuple[str, bool], list[float]] = {}
    size = (folder / "x-accel").stat().st_size
    for turn in range(rounds + 1):
        for write in (True, False):
            for name in random.Random(turn).sample([*found], len(found)):
                seconds = found[name](folder / f"x-{name}", write)
                if turn:  # The first round warms up.
                    times.setdefault((name, write), []).append(seconds)
    base = "fio" if "fio" in found else [*found][-1]
    for write in (True, False):
        for name in found:
            own, other = times[name, write], times[base, write]
            ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
            rate = size / MIB / statistics.median(own)
            kind = "write" if write else "read"
            print(f"  {kind:5} {name:10} {rate:9.0f} MiB/s   {ratio:5.2f} of {base}")


def main() -> None:
    """Measure on a disk, past the page cache, and in memory, as it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--size", type=int, default=256, help="MiB")
    parser.add_argument("--block", type=int, default=1024, help="KiB")
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    size, block = given.size * MIB, given.block * 1024
    for place, direct in ((given.folder, True), (Path("/dev/shm"), False)):
        with tempfile.TemporaryDirectory(dir=place) as name:
            found = parties(size, block, given.depth, given.threads, direct)
            for party in found:
                with (Path(name) / f"x-{party}").open("wb") as file:
                    file.write(bytes(size))
            print(f"{place}: {given.size} MiB, {given.block} KiB, depth {given.depth}, "
                  f"threads {given.threads}, {given.rounds} rounds")  # fmt: skip
            measure(found, Path(name), given.rounds)


if __name__ == "__main__":
    main()
