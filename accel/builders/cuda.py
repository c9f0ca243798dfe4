"""The builders of the ``cuda`` backend; host ops are the ``cpu`` backend's own."""

from __future__ import annotations

from accel.builders.base import CUDAOpBuilder
from accel.builders.cpu import CPUAdagradBuilder as CPUAdagradBuilder
from accel.builders.cpu import CPUAdamBuilder as CPUAdamBuilder
from accel.builders.cpu import CPULionBuilder as CPULionBuilder


class FusedAdamBuilder(CUDAOpBuilder):
    """Adam and AdamW over lists of tensors, in one call."""

    NAME = "fused_adam"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAM"
    op = "accel.ops.optimizers.adam:FusedAdam"
    artifact = "adam"
    native_sources = ("cuda/optimizers/adam.cu",)
    entry_point = "accel_adam_step"


class FusedLionBuilder(CUDAOpBuilder):
    """Lion over lists of tensors, in one call."""

    NAME = "fused_lion"
    BUILD_VAR = "ACCEL_BUILD_FUSED_LION"
    op = "accel.ops.optimizers.lion:FusedLion"
    artifact = "lion"
    native_sources = ("cuda/optimizers/lion.cu",)
    entry_point = "accel_lion_step"


class FusedAdagradBuilder(CUDAOpBuilder):
    """Adagrad over lists of tensors, in one call."""

    NAME = "fused_adagrad"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAGRAD"
    op = "accel.ops.optimizers.adagrad:FusedAdagrad"
    artifact = "adagrad"
    native_sources = ("cuda/optimizers/adagrad.cu",)
    entry_point = "accel_adagrad_step"


class FusedLambBuilder(CUDAOpBuilder):
    """LAMB, with the ratio of norms of each tensor."""

    NAME = "fused_lamb"
    BUILD_VAR = "ACCEL_BUILD_FUSED_LAMB"
    op = "accel.ops.optimizers.lamb:FusedLamb"
    artifact = "lamb"
    native_sources = ("cuda/optimizers/lamb.cu",)
    entry_point = "accel_lamb_step"


class Adam8bitBuilder(CUDAOpBuilder):
    """Adam and AdamW with moments of 8 bits."""

    NAME = "adam8bit"
    BUILD_VAR = "ACCEL_BUILD_ADAM8BIT"
    op = "accel.ops.optimizers.adam8bit:Adam8bit"
    artifact = "adam8bit"
    native_sources = ("cuda/optimizers/adam8bit.cu",)
    entry_point = "accel_adam8bit_step"
