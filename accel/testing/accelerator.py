"""`AcceleratorConformance`: every member of the contract, tested on any accelerator."""

from __future__ import annotations

from accel.testing.contract.amp import AmpTests
from accel.testing.contract.device import DeviceTests
from accel.testing.contract.dtypes import DtypeTests
from accel.testing.contract.identity import IdentityTests
from accel.testing.contract.isolation import IsolationTests
from accel.testing.contract.memory import MemoryTests
from accel.testing.contract.randomness import RandomTests
from accel.testing.contract.streams import StreamTests
from accel.testing.contract.tools import ToolTests


class AcceleratorConformance(
    IdentityTests,
    DeviceTests,
    RandomTests,
    StreamTests,
    MemoryTests,
    DtypeTests,
    AmpTests,
    ToolTests,
    IsolationTests,
):
    """The contract as tests. A backend is complete if its subclass of this suite passes.

    ::

        class TestNPU(AcceleratorConformance):
            accelerator = NPU

    Tests of a capability that the accelerator declares to lack (`Accelerator.lacks`) are skipped.
    Without a usable device, tests that need one are skipped with the probe's reason.
    """
