"""The build engine: from a recipe to a loaded library, never stale, never half-written."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.jit.disk.source_dirs import csrc_dir as csrc_dir
    from accel.jit.disk.source_dirs import refuse_archive as refuse_archive
    from accel.jit.library import Library as Library
    from accel.jit.loading import acquire as acquire
    from accel.jit.loading import availability as availability
    from accel.jit.loading import refuse_prebuilt as refuse_prebuilt
    from accel.jit.plan import Plan as Plan
    from accel.jit.plan import make_plan as make_plan
    from accel.jit.recipe import Recipe as Recipe

_HOMES = {
    "Library": "accel.jit.library",
    "Plan": "accel.jit.plan",
    "Recipe": "accel.jit.recipe",
    "acquire": "accel.jit.loading",
    "availability": "accel.jit.loading",
    "csrc_dir": "accel.jit.disk.source_dirs",
    "make_plan": "accel.jit.plan",
    "refuse_archive": "accel.jit.disk.source_dirs",
    "refuse_prebuilt": "accel.jit.loading",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - computed from the one table above


def __getattr__(name: str) -> Any:
    """Return a public name, importing its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
