"""The contract, on the simulated device."""

from accel_sim import SimAccelerator

from accel.testing import AcceleratorConformance


class TestSim(AcceleratorConformance):
    """The kit's tests, all of them."""

    accelerator = SimAccelerator
