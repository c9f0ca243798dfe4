"""`Declaration`: the members of an `OpBuilder` for finding, packaging and loading; for typing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from accel.jit import Library, Recipe
    from accel.ops.base import Implementation
    from accel.probe import Probe


class Declaration(Protocol):
    """An op on one backend. See `accel.builders.base.OpBuilder`, which documents each member."""

    backend: ClassVar[str]
    device_type: ClassVar[str]
    op: ClassVar[str]
    language: ClassVar[Any]
    _loaded: ClassVar[dict[tuple[Any, ...], Any]]
    name: str

    def absolute_name(self) -> str: ...  # noqa: D102
    def recipe(self) -> Recipe: ...  # noqa: D102
    def has_sources(self) -> bool: ...  # noqa: D102
    def packaged(self) -> Library | None: ...  # noqa: D102
    def probe_packaged(self) -> Probe | None: ...  # noqa: D102
    def stand_ins(self) -> tuple[tuple[str, Probe], ...]: ...  # noqa: D102
    def stand_in(self) -> Implementation | None: ...  # noqa: D102
    def rungs(self) -> tuple[tuple[str, Probe], ...]: ...  # noqa: D102
    def jit_load(self, verbose: bool = False) -> Any: ...  # noqa: D102
    def _keep(self, library: Implementation | None) -> Any: ...
