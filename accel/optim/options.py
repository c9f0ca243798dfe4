"""Arguments that torch's, Apex's and DeepSpeed's constructors have in common."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from accel.errors import Unsupported


def torch_options(
    foreach: bool | None, capturable: bool, differentiable: bool, fused: bool | None
) -> dict[str, Any]:
    """Return a group's entries for what torch's optimizers choose their implementation by.

    `foreach` and `fused` have no effect: all tensors go in one call. `capturable` is always met:
    steps live on the parameter's device. Raises `Unsupported` for `differentiable`.
    """
    if differentiable:
        raise Unsupported(
            "differentiable: a kernel's step cannot be differentiated through; use the optimizer "
            "of torch.optim with differentiable=True."
        )
    return {
        "foreach": foreach,
        "capturable": bool(capturable),
        "differentiable": False,
        "fused": fused,
    }


def rate(lr: Any) -> tuple[float, Tensor | None]:
    """Return a learning rate as a number, and as a tensor where only its device knows it.

    Raises `ValueError` for a tensor of more than one element.
    """
    if not isinstance(lr, Tensor):
        return lr, None
    if lr.numel() != 1:
        raise ValueError(f"lr has {lr.numel()} elements; expected 1.")
    return (float(lr), None) if lr.device.type == "cpu" else (0.0, lr)


def refuse(owner: str, **options: Any) -> None:
    """Raise `Unsupported` naming the first option that was given."""
    for name, value in options.items():
        if value:
            raise Unsupported(f"{name}={value!r} is not supported by {owner}; leave it out.")
