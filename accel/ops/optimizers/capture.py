"""Detection of a step's observers: a compiler, a dispatch mode, or the capture of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from accel.errors import Unsupported
from accel.ops.native import current_device
from accel.ops.optimizers.lists import Hyper, TensorLists

# Missing in the oldest supported torch, where no mode is detected.
_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)


def is_recorded() -> bool:
    """Return whether ``torch.compile`` or a dispatch mode, such as a tracer, is active.

    If so, a call must go through the dispatcher.
    """
    return torch.compiler.is_compiling() or _modes() > 0


def check_repeatable(tensors: TensorLists, hyper: Hyper, *, coded: bool) -> None:
    """Refuse to draw random bits that every replay of a graph would draw again.

    A graph repeats the host's step number and seed, but counts a step number on the device.

    Raises:
        Unsupported: a stochastic step is being captured, and its step number is on the host.
    """
    if tensors.steps is not None or not (coded or hyper.rounding == "stochastic"):
        return
    if tensors.params and is_captured(tensors.params[0].device):
        raise Unsupported(
            f"{tensors.params[0].device}: a graph is being captured, and this call's step number "
            "is on the host, so every replay would round with the same random bits. Step with a "
            "class of accel.optim, which counts on the device, or outside of the capture."
        )


def is_captured(device: torch.device) -> bool:
    """Return whether a graph is being captured on the device's current stream."""
    if torch.compiler.is_compiling():
        return False
    if device.type == "cpu":
        return any(getattr(mode, "repeats", False) for mode in _open_modes())
    asked: Callable[[], bool] | None
    asked = getattr(getattr(torch, device.type, None), "is_current_stream_capturing", None)
    if asked is None:
        return False
    with current_device(device):
        return bool(asked())


def _open_modes() -> list[Any]:
    if not _modes():
        return []
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    return _get_current_dispatch_mode_stack()  # type: ignore[no-any-return,no-untyped-call,unused-ignore]
