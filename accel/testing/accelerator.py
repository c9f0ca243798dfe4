"""`AcceleratorConformance`: every member of the contract, tested on any accelerator."""

from __future__ import annotations

from accel.testing.topics.device import DeviceTests
from accel.testing.topics.dtypes import DtypeTests
from accel.testing.topics.identity import IdentityTests
from accel.testing.topics.isolation import IsolationTests
from accel.testing.topics.memory import MemoryTests
from accel.testing.topics.randomness import RandomTests
from accel.testing.topics.streams import StreamTests
from accel.testing.topics.tools import ToolTests


class AcceleratorConformance(
    IdentityTests,
    DeviceTests,
    RandomTests,
    StreamTests,
    MemoryTests,
    DtypeTests,
    ToolTests,
    IsolationTests,
):
    """The contract as tests. A backend's test file is this, and green means done.

    ::

        class TestNPU(AcceleratorConformance):
            accelerator = NPU

    Tests of a capability that the accelerator declares to lack (`Accelerator.lacks`) are skipped;
    without a usable device, those that need one are, with the probe's reason.
    """
