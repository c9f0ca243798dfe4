"""`TorchOpBuilder`: a user's pybind11 or ``TORCH_LIBRARY`` sources through the same engine."""

from __future__ import annotations

from accel.builders.base import OpBuilder


class TorchOpBuilder(OpBuilder):
    """A kind: sources that include torch's headers; `load` returns the Python extension module."""
