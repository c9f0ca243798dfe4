"""The builders of the ``cpu`` backend."""

from __future__ import annotations

import platform

from accel.builders.base import CPUOpBuilder

# In an order in which two compilers end together.
_PARTS = {
    "x86_64": ("COMMON", "AVX2", "AVX512", "BASELINE"),
    "aarch64": ("COMMON", "NEON", "BASELINE"),
}


class _KernelBuilder(CPUOpBuilder):
    """A kind: kernels under ``csrc/cpu``, plain loops that the compiler turns into vector code."""

    cxx_runtime = False

    def parts(self) -> list[str]:
        """Return the macros of ``foreach_target.h``: one for each SIMD level, one for the rest."""
        return [f"ACCEL_PART_{part}" for part in _PARTS.get(platform.machine(), ())]

    def cxx_args(self) -> list[str]:
        """Return what lets every loop become vector code; results stay the same."""
        return ["-O2", "-ftree-vectorize", "-fno-exceptions", "-fno-rtti", "-fno-trapping-math"]

    def gcc_args(self) -> list[str]:
        """Return the rest of what vector code takes, and what makes it soon."""
        # Of -O3, what these loops gain by: the rest takes as long again to compile, as do vector
        # forms of what is left after whole vectors.
        soon = ["-fno-tree-pre", "--param=vect-epilogues-nomask=0", "-fno-unswitch-loops"]
        return ["-fvect-cost-model=dynamic", *soon]


class FusedAdamBuilder(_KernelBuilder):
    """Adam and AdamW over lists of tensors, in one call."""

    NAME = "fused_adam"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAM"
    op = "accel.ops.optimizers.adam:FusedAdam"
    artifact = "adam"
    native_sources = ("cpu/optimizers/adam.cpp",)


class CPUAdamBuilder(_KernelBuilder):
    """Adam and AdamW for one host tensor at a time, as offloading uses it."""

    NAME = "cpu_adam"
    BUILD_VAR = "ACCEL_BUILD_CPU_ADAM"
    op = "accel.ops.optimizers.adam:CPUAdam"
    artifact = "adam"
    native_sources = ("cpu/optimizers/adam.cpp",)


class FusedLionBuilder(_KernelBuilder):
    """Lion over lists of tensors, in one call."""

    NAME = "fused_lion"
    BUILD_VAR = "ACCEL_BUILD_FUSED_LION"
    op = "accel.ops.optimizers.lion:FusedLion"
    artifact = "lion"
    native_sources = ("cpu/optimizers/lion.cpp",)


class CPULionBuilder(_KernelBuilder):
    """Lion for one host tensor at a time, as offloading uses it."""

    NAME = "cpu_lion"
    BUILD_VAR = "ACCEL_BUILD_CPU_LION"
    op = "accel.ops.optimizers.lion:CPULion"
    artifact = "lion"
    native_sources = ("cpu/optimizers/lion.cpp",)


class FusedAdagradBuilder(_KernelBuilder):
    """Adagrad over lists of tensors, in one call."""

    NAME = "fused_adagrad"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAGRAD"
    op = "accel.ops.optimizers.adagrad:FusedAdagrad"
    artifact = "adagrad"
    native_sources = ("cpu/optimizers/adagrad.cpp",)


class CPUAdagradBuilder(_KernelBuilder):
    """Adagrad for one host tensor at a time, as offloading uses it."""

    NAME = "cpu_adagrad"
    BUILD_VAR = "ACCEL_BUILD_CPU_ADAGRAD"
    op = "accel.ops.optimizers.adagrad:CPUAdagrad"
    artifact = "adagrad"
    native_sources = ("cpu/optimizers/adagrad.cpp",)


class FusedLambBuilder(_KernelBuilder):
    """LAMB, with the ratio of norms of each tensor."""

    NAME = "fused_lamb"
    BUILD_VAR = "ACCEL_BUILD_FUSED_LAMB"
    op = "accel.ops.optimizers.lamb:FusedLamb"
    artifact = "lamb"
    native_sources = ("cpu/optimizers/lamb.cpp",)


class MultiTensorBuilder(_KernelBuilder):
    """Norms, scaling and sums over lists of tensors, in one call."""

    NAME = "multi_tensor"
    BUILD_VAR = "ACCEL_BUILD_MULTI_TENSOR"
    op = "accel.ops.lists.multi_tensor:MultiTensor"
    native_sources = ("cpu/lists/multi_tensor.cpp",)


class Adam8bitBuilder(_KernelBuilder):
    """Adam and AdamW with moments of 8 bits."""

    NAME = "adam8bit"
    BUILD_VAR = "ACCEL_BUILD_ADAM8BIT"
    op = "accel.ops.optimizers.adam8bit:Adam8bit"
    artifact = "adam8bit"
    native_sources = ("cpu/optimizers/adam8bit.cpp",)
