"""The builders of the ``hpu`` backend; host ops are the ``cpu`` backend's own."""

from __future__ import annotations

from accel.builders.base import ReferenceOpBuilder
from accel.builders.cpu import CPUAdagradBuilder as CPUAdagradBuilder
from accel.builders.cpu import CPUAdamBuilder as CPUAdamBuilder
from accel.builders.cpu import CPULionBuilder as CPULionBuilder


class FusedAdamBuilder(ReferenceOpBuilder):
    """Adam and AdamW over lists of tensors, in one call."""

    NAME = "fused_adam"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAM"
    backend = "hpu"
    op = "accel.ops.adam:FusedAdam"
