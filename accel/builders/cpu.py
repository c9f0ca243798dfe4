"""The builders of the ``cpu`` backend."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from accel.builders.base import OpBuilder
from accel.builders.convention import optimizer_builders
from accel.builders.kinds import CPUOpBuilder

# In an order in which two compilers finish at the same time.
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
        """Return the flags with which every loop becomes vector code; results stay the same."""
        return ["-O2", "-ftree-vectorize", "-fno-exceptions", "-fno-rtti", "-fno-trapping-math"]

    def gcc_args(self) -> list[str]:
        """Return further flags for vector code, and flags that save compile time."""
        # Only those parts of -O3 that make these loops faster: the others would double the compile
        # time, and so would vector code for the elements left over after whole vectors.
        soon = ["-fno-tree-pre", "--param=vect-epilogues-nomask=0", "-fno-unswitch-loops"]
        # Else the cache lines of a short loop, and 8 % of its time, hang on the code before it.
        return ["-fvect-cost-model=dynamic", "-falign-functions=64", *soon]


class MultiTensorBuilder(_KernelBuilder):
    """Norms, scaling and sums over lists of tensors, in one call."""

    NAME = "multi_tensor"
    BUILD_VAR = "ACCEL_BUILD_MULTI_TENSOR"
    op = "accel.ops.lists.multi_tensor:MultiTensor"
    artifact = "multi_tensor"
    native_sources = ("cpu/lists/multi_tensor.cpp",)


class BlockwiseQuantizerBuilder(_KernelBuilder):
    """Codes of 8 and 4 bits over blocks, in bitsandbytes' formats."""

    NAME = "blockwise_quantizer"
    BUILD_VAR = "ACCEL_BUILD_BLOCKWISE_QUANTIZER"
    op = "accel.ops.quantizers.blockwise_quantizer:BlockwiseQuantizer"
    artifact = "blockwise_quantizer"
    native_sources = ("cpu/quantizers/blockwise_quantizer.cpp",)


class QuantizerBuilder(_KernelBuilder):
    """Integer codes of groups, in DeepSpeed's format."""

    NAME = "quantizer"
    BUILD_VAR = "ACCEL_BUILD_QUANTIZER"
    op = "accel.ops.quantizers.quantizer:Quantizer"
    artifact = "quantizer"
    native_sources = ("cpu/quantizers/quantizer.cpp",)


class FPQuantizerBuilder(_KernelBuilder):
    """Floating-point codes of groups, in DeepSpeed's format."""

    NAME = "fp_quantizer"
    BUILD_VAR = "ACCEL_BUILD_FP_QUANTIZER"
    op = "accel.ops.quantizers.fp_quantizer:FPQuantizer"
    artifact = "fp_quantizer"
    native_sources = ("cpu/quantizers/fp_quantizer.cpp",)


globals().update(optimizer_builders(_KernelBuilder, __name__))

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[OpBuilder]: ...
