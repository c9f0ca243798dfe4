"""Arguments that torch's, Apex's and DeepSpeed's constructors have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, TypedDict

import torch
from torch import Tensor

from accel.errors import Unsupported
from accel.ops import checks
from accel.ops.optimizers.capture import is_recorded
from accel.ops.optimizers.checks import check_beta
from accel.ops.optimizers.family import check_scalar, check_scale


class Options(TypedDict, total=False):
    """The keyword arguments that the constructors of all optimizers share."""

    maximize: bool
    max_grad_norm: float
    foreach: bool | None
    capturable: bool
    differentiable: bool
    fused: bool | None
    state_dtype: torch.dtype | str | None
    master_dtype: torch.dtype | str | None
    rounding: str
    seed: int | None


class AdamOptions(Options, total=False):
    """The keyword arguments of `FusedAdam` from `maximize` on."""

    master_weights: bool


class AdagradOptions(Options, total=False):
    """The keyword arguments of `FusedAdagrad` from `lr_decay` on."""

    lr_decay: float
    initial_accumulator_value: float


def torch_options(
    foreach: bool | None, capturable: bool, differentiable: bool, fused: bool | None
) -> dict[str, Any]:
    """Return a group's entries for the options that select an implementation in torch.

    `foreach` has no effect: all tensors go in one call. `fused`: the step unscales gradients.
    `capturable` has no effect: step counters are on the parameter's device.
    Raises `Unsupported` for `differentiable`.
    """
    if differentiable:
        raise Unsupported(
            "differentiable: autograd cannot differentiate through a kernel's step; use the "
            "optimizer of torch.optim with differentiable=True."
        )
    return {
        "foreach": foreach,
        "capturable": bool(capturable),
        "differentiable": False,
        "fused": fused,
    }


def rate(lr: Any) -> tuple[Any, Tensor | None]:
    """Return a learning rate as a checked number, and as a tensor if its value is on a device.

    A recorded step keeps a host tensor as it is, and reads and checks it at every run.
    Raises `TypeError` or `ValueError` if `lr` is not a learning rate.
    """
    if not isinstance(lr, Tensor):
        return checks.check_not_negative("lr", lr), None
    check_scalar("lr", lr)
    if lr.device.type != "cpu":
        return 0.0, lr
    if is_recorded():
        return lr, None
    return checks.check_not_negative("lr", float(lr)), None


def scaling(optimizer: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return the attributes `grad_scale` and `found_inf`, which a `GradScaler` sets, as tensors.

    Raises `TypeError` or `ValueError` naming the one that is wrong.
    """
    scale = _scalar("grad_scale", getattr(optimizer, "grad_scale", None))
    found_inf = _scalar("found_inf", getattr(optimizer, "found_inf", None))
    if scale is not None and not is_recorded():
        check_scale(scale, found_inf)
    return scale, found_inf


def _scalar(name: str, value: Any) -> Tensor | None:
    if value is None:
        return None
    if isinstance(value, Real):
        if not isinstance(value, bool):
            value = checks.check_number(name, value, lambda x: not math.isnan(x), "a number")
        return torch.tensor(float(value), dtype=torch.float64, device="cpu")
    check_scalar(name, value)
    found: Tensor = value
    return found


def betas(given: Any, count: int = 2) -> tuple[Any, ...]:
    """Return decay rates in [0, 1), as numbers; a recorded step keeps tensors, as `rate` does.

    Raises `TypeError` or `ValueError` naming the one that is wrong.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != count:
        raise TypeError(f"betas is {checks.shown(given)}; expected {count} numbers.")
    return tuple([_beta(f"betas[{place}]", value) for place, value in enumerate(given)])


def _beta(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        check_scalar(name, value)
        if is_recorded():
            return value
        value = float(value)
    return check_beta(name, value)


def refuse_pieces(owner: str, params: Iterable[Tensor], why: str) -> None:
    """Raise `Unsupported` if a parameter is, or is kept in, a flat parameter of FSDP1."""
    for param in params:
        # FSDP1 flattens whole layers and cuts them into shards; torch marks both with attributes.
        if getattr(param, "_is_flat_param", False) or getattr(param, "_fsdp_flattened", False):
            raise Unsupported(f"{owner} cannot step FullyShardedDataParallel's parameters: {why}.")


def switch(name: str, value: Any) -> bool:
    """Return whether an option is on; raises `TypeError` for text or a container, naming it."""
    if isinstance(value, str | bytes | Sequence | dict | set):
        raise TypeError(f"{name} is {checks.shown(value)}; expected True or False.")
    return bool(value)


def refuse(owner: str, **options: Any) -> None:
    """Raise `Unsupported` naming the first option that is set."""
    for name, value in options.items():
        if value:
            raise Unsupported(f"{name}={value!r} is not supported by {owner}; leave it out.")
