"""The builders of the ``cpu`` backend."""

from __future__ import annotations

from accel.builders.base import CPUOpBuilder


class _KernelBuilder(CPUOpBuilder):
    """A kind: kernels under ``csrc/cpu``, plain loops that the compiler turns into vector code."""

    def cxx_args(self) -> list[str]:
        """Return what lets every loop become vector code; results stay the same."""
        return ["-fno-trapping-math", "-fno-unswitch-loops"]


class FusedAdamBuilder(_KernelBuilder):
    """Adam and AdamW over lists of tensors, in one call."""

    NAME = "fused_adam"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAM"
    op = "accel.ops.adam:FusedAdam"
    artifact = "adam"
    native_sources = ("cpu/adam.cpp",)


class CPUAdamBuilder(_KernelBuilder):
    """Adam and AdamW for one host tensor at a time, as offloading uses it."""

    NAME = "cpu_adam"
    BUILD_VAR = "ACCEL_BUILD_CPU_ADAM"
    op = "accel.ops.adam:CPUAdam"
    artifact = "adam"
    native_sources = ("cpu/adam.cpp",)
