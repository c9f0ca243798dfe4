"""A stranger's accelerator against the contract."""

from stranger import StrangerAccelerator

from accel.testing import AcceleratorConformance


class TestStranger(AcceleratorConformance):
    accelerator = StrangerAccelerator
