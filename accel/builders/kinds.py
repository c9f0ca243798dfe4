"""Kinds of builders: one for each way in which sources become a library."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from accel.builders.base import OpBuilder

if TYPE_CHECKING:
    from accel.jit import Recipe


class CPUOpBuilder(OpBuilder):
    """A kind of builder: C++ for the host, several SIMD levels in one library, OpenMP."""

    backend = "cpu"
    openmp = True


class HostOpBuilder(OpBuilder):
    """A kind of builder: C++ for files and memory of the host; one library serves every backend."""

    cxx_runtime = False

    def cxx_args(self) -> list[str]:
        """Return the flags of plain C++ with threads."""
        return ["-O2", "-pthread", "-fno-exceptions", "-fno-rtti"]

    def extra_ldflags(self) -> list[str]:
        """Return the library of threads, which is separate in older C libraries."""
        return ["-lpthread"]

    def recipe(self) -> Recipe:
        """Return the recipe for the host, on every accelerator."""
        return super().recipe().replace(backend=CPUOpBuilder.backend)


class CUDAOpBuilder(OpBuilder):
    """A kind of builder: plain CUDA sources; needs nvcc, and nothing of torch."""

    backend = "cuda"
    language = "cuda"
    uses_triton = True


class SYCLOpBuilder(OpBuilder):
    """A kind of builder: SYCL kernels for ``xpu``, kept as text in a small C++ library.

    libsycl compiles them on first use. Headers and libsycl come with torch's XPU wheels.
    """

    backend = "xpu"

    def recipe(self) -> Recipe:
        """Return the recipe; raises `OpUnavailable` if there is no SYCL runtime."""
        from accel.jit.tools.sycl import with_sycl

        return with_sycl(super().recipe())

    def jit_load(self, verbose: bool = False) -> Any:
        """Return the native op; raises as `load` does under native."""
        from accel.jit.tools.sycl import load_sycl

        load_sycl()
        return super().jit_load(verbose)


class ReferenceOpBuilder(OpBuilder):
    """A kind of builder: the PyTorch reference, for a backend that has no native form of an op."""


KINDS = (OpBuilder, CPUOpBuilder, HostOpBuilder, CUDAOpBuilder, SYCLOpBuilder, ReferenceOpBuilder)


def declared(module_name: str) -> Iterator[tuple[str, type[OpBuilder]]]:
    """Yield name and class of every concrete builder in a module; kinds are left out."""
    for name, value in vars(import_module(module_name)).items():
        if isinstance(value, type) and issubclass(value, OpBuilder) and value.NAME:
            yield name, value
