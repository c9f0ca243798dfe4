"""The builders of the ``xpu`` backend; host ops are the ``cpu`` backend's own."""

from __future__ import annotations

from accel.builders.base import SYCLOpBuilder
from accel.builders.cpu import CPUAdagradBuilder as CPUAdagradBuilder
from accel.builders.cpu import CPUAdamBuilder as CPUAdamBuilder
from accel.builders.cpu import CPULionBuilder as CPULionBuilder


class FusedAdamBuilder(SYCLOpBuilder):
    """Adam and AdamW over lists of tensors, in one call."""

    NAME = "fused_adam"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAM"
    op = "accel.ops.optimizers.adam:FusedAdam"
    artifact = "adam"
    native_sources = ("xpu/optimizers/adam.cpp",)


class FusedLionBuilder(SYCLOpBuilder):
    """Lion over lists of tensors, in one call."""

    NAME = "fused_lion"
    BUILD_VAR = "ACCEL_BUILD_FUSED_LION"
    op = "accel.ops.optimizers.lion:FusedLion"
    artifact = "lion"
    native_sources = ("xpu/optimizers/lion.cpp",)


class FusedAdagradBuilder(SYCLOpBuilder):
    """Adagrad over lists of tensors, in one call."""

    NAME = "fused_adagrad"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAGRAD"
    op = "accel.ops.optimizers.adagrad:FusedAdagrad"
    artifact = "adagrad"
    native_sources = ("xpu/optimizers/adagrad.cpp",)


class FusedLambBuilder(SYCLOpBuilder):
    """LAMB, with the ratio of norms of each tensor."""

    NAME = "fused_lamb"
    BUILD_VAR = "ACCEL_BUILD_FUSED_LAMB"
    op = "accel.ops.optimizers.lamb:FusedLamb"
    artifact = "lamb"
    native_sources = ("xpu/optimizers/lamb.cpp",)


class Adam8bitBuilder(SYCLOpBuilder):
    """Adam and AdamW with moments of 8 bits."""

    NAME = "adam8bit"
    BUILD_VAR = "ACCEL_BUILD_ADAM8BIT"
    op = "accel.ops.optimizers.adam8bit:Adam8bit"
    artifact = "adam8bit"
    native_sources = ("xpu/optimizers/adam8bit.cpp",)
