"""Every op that has a spec, on the late device; run in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from simulator.library import late

from accel.testing import OpConformance

if os.environ["SIMULATED"] == "hpu":
    from accel.hpu import HPUAccelerator as Chosen
else:
    from late_backend import LateAccelerator as Chosen


@pytest.fixture(autouse=True)
def late_by_a_moment() -> Iterator[None]:
    if not Chosen().is_available():
        raise AssertionError(str(Chosen().probe()))
    with late(0.00002):
        yield


class TestOps(OpConformance):
    accelerator = Chosen
