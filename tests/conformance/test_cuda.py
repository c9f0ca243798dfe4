"""CUDA against the contract; without a device, what can be asked without one."""

from accel.cuda import CUDAAccelerator
from accel.testing import AcceleratorConformance


class TestCUDA(AcceleratorConformance):
    accelerator = CUDAAccelerator
