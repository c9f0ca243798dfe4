"""Arguments that torch's, Apex's and DeepSpeed's constructors have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from accel.errors import Unsupported
from accel.ops import checks
from accel.ops.capture import is_recorded


def torch_options(
    foreach: bool | None, capturable: bool, differentiable: bool, fused: bool | None
) -> dict[str, Any]:
    """Return a group's entries for what torch's optimizers choose their implementation by.

    `foreach` has no effect: all tensors go in one call. `fused` says who unscales gradients.
    `capturable` is always met: steps live on the parameter's device.
    Raises `Unsupported` for `differentiable`.
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
    if lr.is_complex():
        raise TypeError(f"lr has dtype {lr.dtype}; expected a real number.")
    if lr.device.type != "cpu":
        return 0.0, lr
    if is_recorded():
        return lr, None
    checks.check_storage(lr, "lr")
    return checks.check_not_negative("lr", float(lr)), None


def betas(given: Any) -> tuple[Any, Any]:
    """Return two decay rates in [0, 1), as numbers; a recorded step keeps tensors, as `rate` does.

    Raises `TypeError` or `ValueError` naming the one that is wrong.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        raise TypeError(f"betas is {checks.shown(given)}; expected two numbers.")
    return _beta("betas[0]", given[0]), _beta("betas[1]", given[1])


def _beta(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            raise ValueError(
                f"{name} is a tensor of {value.numel()} elements; expected one number."
            )
        if is_recorded():
            return value
        checks.check_storage(value, name)
        value = float(value)
    return checks.check_beta(name, value)


def refuse_pieces(owner: str, params: Iterable[Tensor], why: str) -> None:
    """Raise `Unsupported` if a parameter is, or is kept in, a flat parameter of FSDP1."""
    for param in params:
        # Whole layers' parameters in a row, cut where shards end; torch marks both by attributes.
        if getattr(param, "_is_flat_param", False) or getattr(param, "_fsdp_flattened", False):
            raise Unsupported(f"{owner} cannot step FullyShardedDataParallel's parameters: {why}.")


def refuse(owner: str, **options: Any) -> None:
    """Raise `Unsupported` naming the first option that was given."""
    for name, value in options.items():
        if value:
            raise Unsupported(f"{name}={value!r} is not supported by {owner}; leave it out.")
