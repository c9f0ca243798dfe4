"""The HPU strategy, whole, on the simulated device; run in a process of its own."""

from __future__ import annotations

import os

from accel.hpu import HPUAccelerator
from accel.testing import AcceleratorConformance

LAZY = os.environ.get("PT_HPU_LAZY_MODE") == "1"


class TestHPU(AcceleratorConformance):
    accelerator = HPUAccelerator
