"""The build engine: from a recipe to a loaded library, never stale, never half-written."""

from __future__ import annotations

from accel.jit.acquire import acquire, availability
from accel.jit.library import Library
from accel.jit.paths import csrc_dir
from accel.jit.plan import Plan, make_plan
from accel.jit.recipe import Recipe

__all__ = [
    "Library",
    "Plan",
    "Recipe",
    "acquire",
    "availability",
    "csrc_dir",
    "make_plan",
]
