"""CUDA against the contract and the ops' specs; without a device, what can be asked without one."""

from accel.cuda import CUDAAccelerator
from accel.testing import AcceleratorConformance, OpConformance


class TestCUDA(AcceleratorConformance):
    accelerator = CUDAAccelerator


class TestCUDAOps(OpConformance):
    accelerator = CUDAAccelerator
