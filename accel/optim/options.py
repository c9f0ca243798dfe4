"""Arguments that torch's, Apex's and DeepSpeed's constructors have in common."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from accel.errors import Unsupported
from accel.ops import checks
from accel.ops.capture import is_recorded


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


def rate(lr: Any) -> tuple[Any, Tensor | None]:
    """Return a learning rate as a checked number, and as a tensor where only its device knows it.

    A recorded step keeps the number of a tensor on the host as that tensor, to be read and checked
    at every run. Raises `TypeError` or `ValueError` for what is no learning rate.
    """
    if not isinstance(lr, Tensor):
        return checks.check_not_negative("lr", lr), None
    if lr.numel() != 1:
        raise ValueError(f"lr has {lr.numel()} elements; expected 1.")
    if lr.device.type != "cpu":
        return 0.0, lr
    return lr if is_recorded() else checks.check_not_negative("lr", float(lr)), None


def decay_rate(name: str, beta: Any) -> Any:
    """Return a decay rate as a checked number; a recorded step keeps a tensor, as `rate` does."""
    if isinstance(beta, Tensor):
        if is_recorded():
            return beta
        beta = float(beta)
    return checks.check_beta(name, beta)


def refuse(owner: str, **options: Any) -> None:
    """Raise `Unsupported` naming the first option that was given."""
    for name, value in options.items():
        if value:
            raise Unsupported(f"{name}={value!r} is not supported by {owner}; leave it out.")
