"""The builders of the ``cpu`` backend."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from accel.builders.base import OpBuilder
from accel.builders.convention import library_builders, optimizer_builders
from accel.builders.kinds import CPUOpBuilder

# In an order in which two compilers finish at the same time.
_PARTS = {
    "x86_64": ("COMMON", "AVX2", "AVX512", "BASELINE"),
    "aarch64": ("COMMON", "NEON", "BASELINE"),
}


class _KernelBuilder(CPUOpBuilder):
    """A kind of builder: kernels under ``csrc/cpu``, plain loops that compilers vectorize."""

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
        # Otherwise the code before a short loop decides how many cache lines the loop spans, which
        # is worth 8 % of its time.
        return ["-fvect-cost-model=dynamic", "-falign-functions=64", *soon]


_OTHERS = ("multi_tensor", "blockwise_quantizer", "quantizer", "fp_quantizer")
"""Ops other than optimizers that have a source under ``csrc/cpu``."""

globals().update(optimizer_builders(_KernelBuilder, __name__))
globals().update(library_builders(_KernelBuilder, __name__, _OTHERS))

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[OpBuilder]: ...
