"""Transfers between memory and files of one folder: the settings of `aio_handle` in turns."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from accel.bench.disk import CALL_THREADS, MIB, Disk
from accel.bench.timing import Advance, Times, summary

METHOD = (
    "One file is written once, unmeasured, and unlinked from the start. Then every setting of "
    "aio_handle and the limit write and read the same bytes of it, in turns whose order is "
    "shuffled each round. Medians of the rounds after the first, or of the only round; a ratio is "
    "the median of the rounds' ratios. The limit is what "
    f"{CALL_THREADS} threads reach with system calls of 1 MiB, past the page cache if possible."
)
BLOCKS = (256 << 10, 1 << 20, 4 << 20)
DEPTHS = (8, 32, 128)
THREADS = (1, 2, 4)
LIMIT = "system calls"
DIRECTIONS = ("read", "write")
LEAST_MIB = 16
# Rounds that are planned for, and the most of them; a setting this near to the best is as good.
PLANNED, MOST, AS_GOOD = 3, 10, 0.97


class Setting(NamedTuple):
    """The arguments of a handle that are varied: bytes of a request, requests, and threads."""

    block: int
    depth: int
    threads: int

    @property
    def name(self) -> str:
        """The name in tables."""
        size = f"{self.block >> 20} MiB" if self.block % MIB == 0 else f"{self.block >> 10} KiB"
        return f"{size}, depth {self.depth}, threads {self.threads}"

    def in_flight(self) -> int:
        """Return the bytes that are on their way at a time."""
        return self.block * self.depth * self.threads

    def aio(self) -> dict[str, Any]:
        """Return the section ``aio`` of DeepSpeed's configuration."""
        return {
            "block_size": self.block,
            "queue_depth": self.depth,
            "intra_op_parallelism": self.threads,
            "single_submit": False,
            "overlap_events": True,
        }


class Budget(NamedTuple):
    """The limits of a measurement.

    Attributes:
        size: bytes of the file, and the most of one turn.
        seconds: about how long to measure; twice that if one round takes longer.
        total: the most bytes that are read and written in all turns.
    """

    size: int
    seconds: float
    total: int


Key = tuple[str, str]
Turns = dict[Key, Callable[[], float]]


def settings(
    blocks: Iterable[int] = BLOCKS, depths: Iterable[int] = DEPTHS, threads: Iterable[int] = THREADS
) -> list[Setting]:
    """Return the product of all values."""
    return [Setting(*one) for one in itertools.product(blocks, depths, threads)]


def turn_bytes(budget: Budget, rate: float, settings: int) -> int:
    """Return the bytes of one turn: whole MiB that fit into the limits, but at least `LEAST_MIB`.

    Args:
        budget: the limits.
        rate: bytes a second that the disk has shown.
        settings: how many there are.
    """
    turns = PLANNED * len(DIRECTIONS) * (settings + 1)
    fitting = min(budget.size, rate * budget.seconds / turns, budget.total / turns)
    return max(LEAST_MIB, int(fitting) // MIB) * MIB


def least_total(settings: int) -> int:
    """Return the bytes of one round of the shortest turns."""
    return LEAST_MIB * MIB * len(DIRECTIONS) * (settings + 1)


def measure(
    folder: Path,
    listed: list[Setting],
    budget: Budget,
    *,
    make_engine: Callable[[int, int, int], Any],
    advance: Advance,
) -> dict[str, Any]:
    """Return the entries of a results file: cases, engine, the best setting.

    Args:
        folder: the folder of the file, which has no name and is gone when the process ends.
        listed: the settings.
        budget: the limits.
        make_engine: returns an engine for a block, a depth and threads.
        advance: called with the part that is done.

    Raises:
        OSError: the folder or the file cannot be used; `TransferError` if a transfer failed.
    """
    with Disk(folder, budget.size, make_engine) as disk:
        length = turn_bytes(budget, budget.size / disk.fill(), len(listed))
        used = [one for one in listed if one.in_flight() <= length]
        turns = turns_of(disk, used, length)
        most = max(1, min(MOST, budget.total // (length * len(turns))))
        times = take_turns(turns, budget.seconds, most, advance)
        cases = {one: _case(one, times, length, disk.limit) for one in DIRECTIONS}
        facts = disk.facts()
    chosen = best(used, cases)
    left_out = {
        one.name: f"it has more in flight than the {length // MIB} MiB of a turn"
        for one in listed
        if one not in used
    }
    left_out |= {name: "no time left" for way, name in turns if name not in _all_of(cases)}
    for case in cases.values():
        case |= {"left_out": left_out, "best": chosen.name if chosen else ""}
    return {"cases": cases, "aio": chosen.aio() if chosen else None, **facts}


def turns_of(disk: Disk, used: list[Setting], length: int) -> Turns:
    """Return what takes turns, by direction and name: the limit first, then every setting."""
    turns: Turns = {}
    for way in DIRECTIONS:
        write = way == "write"
        turns[way, LIMIT] = partial(disk.calls, length, write=write)
        for one in used:
            turns[way, one.name] = partial(disk.transfer, *one, length=length, write=write)
    return turns


def take_turns(turns: Turns, seconds: float, most: int, advance: Advance) -> dict[Key, list[float]]:
    """Return the seconds of every turn, round by round.

    The first round does not count unless it is the only one. A round that is not over in time is
    dropped, except for the first: of that one, what was measured in twice the time is returned.

    Args:
        turns: return their own seconds; limits come first in every round.
        seconds: no turn begins after that.
        most: the largest number of rounds.
        advance: called with the part that is done.
    """
    found: dict[Key, list[float]] = {key: [] for key in turns}
    limits = [key for key in turns if key[1] == LIMIT]
    others = [key for key in turns if key[1] != LIMIT]
    began = time.perf_counter()
    for done in range(most):
        order = limits + random.Random(done).sample(others, len(others))
        for at, key in enumerate(order):
            passed = time.perf_counter() - began
            if passed > seconds * (1 if done else 2) and (done or key not in limits):
                return _counted(found, done)
            advance(min(1.0, max(passed / seconds, (done + at / len(order)) / most)))
            found[key].append(turns[key]())
    return _counted(found, most)


def _counted(found: dict[Key, list[float]], rounds: int) -> dict[Key, list[float]]:
    first, end = (1, rounds) if rounds > 1 else (0, 1)
    return {key: listed[first:end] for key, listed in found.items() if listed[first:end]}


def _case(way: str, times: dict[Key, list[float]], length: int, limit: str) -> dict[str, Any]:
    own: Times = {name: listed for (one, name), listed in times.items() if one == way}
    return {
        "title": f"{way}, {length // MIB} MiB",
        "unit": "s a turn",
        "bytes": length,
        "rounds": len(own[LIMIT]),
        "limit": LIMIT,
        "limit_is": limit,
        "contestants": summary(own, dict.fromkeys(own, LIMIT)),
    }


def _all_of(cases: dict[str, dict[str, Any]]) -> set[str]:
    """Return the contestants that all directions have."""
    return set.intersection(*({*case["contestants"]} for case in cases.values()))


def best(used: list[Setting], cases: dict[str, dict[str, Any]]) -> Setting | None:
    """Return the setting for both directions, or ``None`` if none was measured in both.

    It has the largest product of bandwidths; of those that are as good, within 3 %, it has the
    fewest threads, then the fewest bytes in flight.
    """
    measured = [one for one in used if one.name in _all_of(cases)]
    if not measured:
        return None

    def score(one: Setting) -> float:
        first, second = (cases[way]["contestants"][one.name]["seconds"] for way in DIRECTIONS)
        return float((first * second) ** -0.5)

    top = max(map(score, measured))
    good = [one for one in measured if score(one) >= AS_GOOD * top]
    return min(good, key=lambda one: (one.threads, one.in_flight(), one.block))
