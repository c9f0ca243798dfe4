"""`Op`: what a builder's `load()` returns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol


class Implementation(Protocol):
    """The code behind an op: a loaded native library, or a stand-in for one.

    Attributes:
        rung: ``"prebuilt"``, ``"jit"``, ``"portable"`` or ``"vendor"``.
        digest: tells implementations apart; the same in each process.
        path: the file or folder that it came from, ``None`` if there is none to be told.
    """

    @property
    def rung(self) -> str: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def path(self) -> Path | None: ...  # noqa: D102

    def bind(self, symbol: str) -> Any:
        """Return what an entry point does; raises `LookupError` or `AttributeError` without it."""


class Op:
    """A loaded op: a call surface, and where its implementation came from.

    Args:
        library: does the op's work; ``None``: the PyTorch reference does.
        backend: name of the backend that it was loaded for.

    Attributes:
        name: the op's name, such as ``"fused_adam"``.
        functions: names of the functions of the call surface. Classes and members of enums that
            the class has as attributes belong to it, too.
        registers: names in torch's dispatcher by which programs for DeepSpeed call a `DeclaredOp`,
            such as ``"deepspeed::inference_all_reduce"``; they are there in DeepSpeed mode only.
        implementation: the rung: ``"prebuilt"``, ``"jit"``, ``"portable"``, ``"vendor"`` or
            ``"reference"``.
        digest: the library's digest, or ``None``.
        path: the library's file, or ``None``.
    """

    name: ClassVar[str] = ""
    functions: ClassVar[tuple[str, ...]] = ()
    registers: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        library: Implementation | None = None,
        *,
        backend: str = "cpu",
    ) -> None:
        self.backend = backend
        self.implementation: str = "reference" if library is None else library.rung
        self.digest: str | None = None if library is None else library.digest
        self.path: Path | None = None if library is None else library.path

    @classmethod
    def notes(cls, backend: str) -> tuple[str, ...]:
        """Return further sentences for `accel explain` about the op on a backend."""
        return ()

    def __repr__(self) -> str:
        return f"<{self.name} for {self.backend}: {self.implementation}>"
