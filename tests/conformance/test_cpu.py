"""The CPU against the contract."""

from accel.cpu import CPUAccelerator
from accel.testing import AcceleratorConformance


class TestCPU(AcceleratorConformance):
    accelerator = CPUAccelerator
