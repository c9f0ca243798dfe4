"""The number of threads for a CPU kernel."""

from __future__ import annotations

import os

from accel import environment


def cpu_threads() -> int:
    """Return ``ACCEL_NUM_THREADS``, else this process's share of the CPUs, at least 1.

    The share is the number of CPUs that the calling thread may run on, divided by
    ``LOCAL_WORLD_SIZE``. ``OMP_NUM_THREADS`` is ignored, because launchers set it to 1.
    Raises `ValueError` if ``ACCEL_NUM_THREADS`` is not a positive whole number.
    """
    asked = environment.num_threads()
    if asked is not None:
        return asked
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:
        cpus = os.cpu_count() or 1
    return max(1, cpus // environment.local_world_size())
