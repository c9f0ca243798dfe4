"""The builders of the ``cuda`` backend; host ops are the ``cpu`` backend's own."""

from __future__ import annotations

from accel.builders.base import CUDAOpBuilder
from accel.builders.cpu import CPUAdamBuilder as CPUAdamBuilder


class FusedAdamBuilder(CUDAOpBuilder):
    """Adam and AdamW over lists of tensors, in one call."""

    NAME = "fused_adam"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAM"
    op = "accel.ops.adam:FusedAdam"
    artifact = "adam"
    native_sources = ("cuda/adam.cu",)
    entry_point = "accel_adam_step"
