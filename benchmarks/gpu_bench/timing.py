"""Times of several contestants in turns, on the device and on the wall."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from accel.bench.timing import Times
from accel.bench.timing import beside as beside

from .bench import Bench

Work = Callable[[], object]
ROUNDS, WARM = 15, 3


def device_times(bench: Bench, contestants: Mapping[str, Work]) -> Times:
    """Return each one's times between two events on the device, in seconds, round by round."""
    times: Times = {name: [] for name in contestants}
    for round_number in range(ROUNDS + WARM):
        for name, work in contestants.items():
            start, end = (bench.accelerator.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            if round_number >= WARM:
                times[name].append(start.elapsed_time(end) / 1000)
    return times


def wall_times(bench: Bench, contestants: Mapping[str, Work], repeats: int = 10) -> Times:
    """Return each one's wall time of a call among `repeats`, the device's end waited for."""
    times: Times = {name: [] for name in contestants}
    for round_number in range(9):
        for name, work in contestants.items():
            bench.accelerator.synchronize()
            start = time.perf_counter()
            for _ in range(repeats):
                work()
            bench.accelerator.synchronize()
            if round_number >= 2:
                times[name].append((time.perf_counter() - start) / repeats)
    return times


def host_seconds(bench: Bench, work: Work) -> float:
    """Return the median time of a call until it returns, with an idle device before each."""
    times = []
    for _ in range(10):
        bench.accelerator.synchronize()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    bench.accelerator.synchronize()
    return statistics.median(times)
