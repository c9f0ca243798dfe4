"""HPU against the contract; without a device, what can be asked without one."""

from accel.hpu import HPUAccelerator
from accel.testing import AcceleratorConformance


class TestHPU(AcceleratorConformance):
    accelerator = HPUAccelerator
