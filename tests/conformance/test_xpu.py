"""XPU against the contract; without a device, what can be asked without one."""

from accel.testing import AcceleratorConformance
from accel.xpu import XPUAccelerator


class TestXPU(AcceleratorConformance):
    accelerator = XPUAccelerator
