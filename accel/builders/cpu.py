"""The builders of the ``cpu`` backend."""

from __future__ import annotations

from accel.builders.base import CPUOpBuilder


class FusedAdamBuilder(CPUOpBuilder):
    """Adam and AdamW over lists of tensors, in one call."""

    NAME = "fused_adam"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAM"
    op = "accel.ops.adam:FusedAdam"
    artifact = "adam"
    native_sources = ("cpu/adam.cpp",)


class CPUAdamBuilder(CPUOpBuilder):
    """Adam and AdamW for one host tensor at a time, as offloading uses it."""

    NAME = "cpu_adam"
    BUILD_VAR = "ACCEL_BUILD_CPU_ADAM"
    op = "accel.ops.adam:CPUAdam"
    artifact = "adam"
    native_sources = ("cpu/adam.cpp",)
