"""torch's hooks and profiler mark around a step, skipped while nobody needs them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer, optimizer

Step = Callable[..., Any]
_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_GLOBAL_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")
_profiled: Callable[[], bool] | None = getattr(torch.autograd, "_profiler_enabled", None)


def marked_where_watched(step: Step) -> Step:
    """Return a step that a profiler sees and that runs hooks, as every torch optimizer's does.

    Entering the mark takes as long as stepping a hundred small tensors, so it is entered only if a
    profiler records, a hook is registered, or a graph is being made.
    """
    marked: Step = Optimizer.profile_hook_step(step)

    @functools.wraps(step)
    def stepped(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        return (marked if _watched(self) else step)(self, *args, **kwargs)

    return stepped


def _watched(stepping: Optimizer) -> bool:
    # If a later torch keeps hooks elsewhere, they count as registered. The test for a compiler
    # comes first, since torch 2.9's cannot trace the test for a profiler.
    return (
        torch.compiler.is_compiling()
        or _profiled is None
        or _profiled()
        or any(getattr(stepping, name, True) for name in _HOOKS)
        or any(getattr(optimizer, name, True) for name in _GLOBAL_HOOKS)
    )
