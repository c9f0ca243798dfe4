"""`Op`: the base class of the objects that a builder's `load()` returns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol


class Implementation(Protocol):
    """The code behind an op: a loaded native library, or a stand-in for one.

    Attributes:
        rung: ``"prebuilt"``, ``"jit"``, ``"portable"`` or ``"vendor"``.
        digest: identifies the implementation; the same in each process.
        path: the file or folder that it came from, or ``None``.
    """

    @property
    def rung(self) -> str: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def path(self) -> Path | None: ...  # noqa: D102

    def bind(self, symbol: str) -> Any:
        """Return the callable of an entry point; raises `LookupError` or `AttributeError`."""


class Op:
    """A loaded op: a call surface, and where its implementation came from.

    Args:
        library: the implementation; ``None``: the PyTorch reference.
        backend: torch's type of the devices that the op was loaded for, such as ``"cuda"``; the
            backend's name if its strategy does not have another `device_type`.

    Attributes:
        name: the op's name, such as ``"fused_adam"``.
        functions: names of the functions of the call surface. Classes and members of enums that
            the class has as attributes belong to it, too.
        registers: names in torch's dispatcher under which programs for DeepSpeed call a
            `DeclaredOp`, such as ``"deepspeed::inference_all_reduce"``; in DeepSpeed mode only.
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
