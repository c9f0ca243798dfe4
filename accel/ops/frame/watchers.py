"""Observers of a call: a compiler, a dispatch mode, a transform, a tracer or a profiler.

If one is present, the call goes through the dispatcher. The test for a compiler comes first: the
compiler treats its result as a constant and never sees the other tests, which it cannot trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.autograd.graph import increment_version

is_compiling = torch.compiler.is_compiling
modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
transforms: Callable[[], Any] = getattr(
    getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: None
)
tracing: Callable[[], Any] = getattr(torch._C, "_get_tracing_state", lambda: None)
profiling: Callable[[], bool] = getattr(torch.autograd, "_profiler_enabled", lambda: False)
NAMES: dict[str, Any] = {
    "is_compiling": is_compiling,
    "modes": modes,
    "transforms": transforms,
    "tracing": tracing,
    "profiling": profiling,
    "forward_ad": forward_ad,
    "grad_enabled": torch.is_grad_enabled,
    "increment_version": increment_version,
}
"""The tests, by the names that generated source uses."""


def is_recorded() -> bool:
    """Return whether calls must go through the dispatcher now."""
    return is_compiling() or modes() > 0 or tracing() is not None or profiling()


def has_tangents() -> bool:
    """Return whether forward-mode differentiation is active."""
    return bool(forward_ad._current_level >= 0)


def is_transformed() -> bool:
    """Return whether a transform of ``torch.func`` is active."""
    return transforms() is not None
