"""The CPU's ops against float64."""

from accel.cpu import CPUAccelerator
from accel.testing import OpConformance


class TestCPUOps(OpConformance):
    accelerator = CPUAccelerator
