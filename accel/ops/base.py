"""`Op`: what a builder's `load()` returns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from accel.jit import Library
    from accel.ops.frame.triton import TritonKernel
    from accel.ops.gaudi import Gaudi
    from accel.ops.portable import Portable


class Op:
    """A loaded op: a call surface, and where its implementation came from.

    Args:
        library: the native library, what stands in for it, or ``None`` for the PyTorch reference.
        backend: name of the backend that it was loaded for.

    Attributes:
        name: the op's name, such as ``"fused_adam"``.
        functions: names of the functions of the call surface.
        implementation: the rung: ``"prebuilt"``, ``"jit"``, ``"portable"``, ``"vendor"`` or
            ``"reference"``.
        digest: the library's digest, or ``None``.
        path: the library's file, or ``None``.
    """

    name: ClassVar[str] = ""
    functions: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        library: Library | Portable | TritonKernel | Gaudi | None = None,
        *,
        backend: str = "cpu",
    ) -> None:
        self.backend = backend
        self.implementation: str = "reference" if library is None else library.rung
        self.digest: str | None = None if library is None else library.digest
        self.path: Path | None = None if library is None else library.path

    @classmethod
    def notes(cls, backend: str) -> tuple[str, ...]:
        """Return what else `accel explain` tells of the op on a backend, a sentence each."""
        return ()

    def __repr__(self) -> str:
        return f"<{self.name} for {self.backend}: {self.implementation}>"
