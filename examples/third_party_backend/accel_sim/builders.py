"""The builders of the ``sim`` backend: how its own ops are built."""

from __future__ import annotations

from accel.builders.base import OpBuilder


class MovingAverageBuilder(OpBuilder):
    """The moving average of weights, on the device's own streams."""

    NAME = "moving_average"
    BUILD_VAR = "ACCEL_BUILD_MOVING_AVERAGE"
    backend = "sim"
    op = "accel_sim.ops:MovingAverage"

    def sources(self) -> list[str]:
        """Return the source, looked up beside this module."""
        return ["csrc/moving_average.cpp"]

    def include_paths(self) -> list[str]:
        """Return the folder of the maker's header."""
        return ["csrc"]
