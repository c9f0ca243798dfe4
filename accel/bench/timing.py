"""Times of several contestants in turns, with their medians and paired ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Times = dict[str, list[float]]
Advance = Callable[[float], None]
# Rounds of which the medians are worth reading, unless they take twice the time; and the most.
LEAST, MOST = 3, 200


def _nothing() -> None: ...


@dataclass(frozen=True)
class Turn:
    """A contestant.

    Attributes:
        work: the part that is timed.
        prepare: comes before it and is not timed.
        own_clock: whether `work` returns the seconds to count.
    """

    work: Callable[[], object]
    prepare: Callable[[], object] = _nothing
    own_clock: bool = False

    def seconds(self, synchronize: Callable[[], object]) -> float:
        """Take the turn and return its seconds."""
        self.prepare()
        synchronize()
        start = time.perf_counter()
        found = self.work()
        synchronize()
        passed = time.perf_counter() - start
        return found if self.own_clock and isinstance(found, float) else passed


def interleaved(
    turns: Mapping[str, Turn],
    seconds: float,
    *,
    synchronize: Callable[[], object] = _nothing,
    advance: Advance | None = None,
    rounds: int = 0,
) -> Times:
    """Return the seconds of each turn, round by round, without the first round.

    Args:
        turns: the contestants by name; in each round each has one turn, in this order, so that
            whatever else the machine does slows all alike.
        seconds: rounds go on until then; there are `LEAST` if they fit into twice that, else at
            least one.
        synchronize: waits for the device.
        advance: called after each round with the part that is done, from 0 to 1.
        rounds: how many rounds there are, whatever they take; 0: as many as fit.
    """
    times: Times = {name: [] for name in turns}
    began = time.perf_counter()
    done = 0
    while True:
        for name, turn in turns.items():
            times[name].append(turn.seconds(synchronize))
        done += 1
        passed = time.perf_counter() - began
        part = (done - 1) / rounds if rounds else max(passed / seconds, (done - 1) / MOST)
        if advance is not None:
            advance(min(1.0, part))
        least = 1 if passed > 2 * seconds else LEAST
        if done > rounds > 0 or (not rounds and done > least and part >= 1):
            return {name: listed[1:] for name, listed in times.items()}


def ratio(theirs: list[float], ours: list[float]) -> float:
    """Return the median of the rounds' ratios: how many times as long as ours theirs takes."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def summary(times: Times, against: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return median and least seconds of each contestant, and its paired ratio.

    Args:
        times: as `interleaved` returns them.
        against: by contestant, the one that it is compared with: ``ratio`` is how many times as
            long as that one it takes.
    """
    found = {}
    for name, listed in times.items():
        row: dict[str, Any] = {"seconds": statistics.median(listed), "least": min(listed)}
        other = against.get(name)
        if other in times:
            row |= {"against": other, "ratio": ratio(listed, times[other])}
        found[name] = row
    return found


def beside(times: Times, ours: str) -> dict[str, Any]:
    """Return the medians, and how many times as long as ours each peer takes, of the pairs."""
    found: dict[str, Any] = {"seconds": statistics.median(times[ours])}
    for name, theirs in times.items():
        if name != ours:
            found[f"{name}_seconds"] = statistics.median(theirs)
            found[f"times_{name}"] = ratio(theirs, times[ours])
    return found
