"""Numbers of the references: rates, counters and flags, which are never read from a device."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from accel.ops.optimizers.lists import Hyper, TensorLists

Scalar = float | Tensor
_FLOAT64 = {"cpu": True, "cuda": True, "meta": True, "mps": False, "hpu": False}
"""Whether a type of device computes in float64, for those that need no trial."""


def count_steps(tensors: TensorLists, hyper: Hyper, by: float) -> None:
    """Count the step of every tensor, unless it is skipped."""
    on_device: dict[torch.device, list[Tensor]] = {}
    for step in tensors.steps or ():
        on_device.setdefault(step.device, []).append(step)
    for device, steps in on_device.items():
        skip = skip_flag(hyper, device)
        amount: Scalar = by if skip is None else torch.where(skip, 0.0, by)
        unlike = {*map(type, steps)} != {Tensor} or any(map(Tensor.is_neg, steps))
        if unlike or len({*map(id, steps)}) < len(steps):
            for step in steps:
                step.add_(amount)
        elif isinstance(amount, Tensor):
            # Without alpha, torch converts the tensor to a number, which waits for the device.
            torch._foreach_add_(steps, amount, alpha=1.0)
        elif device.type == "cpu":
            # On the host, torch would make a new tensor from a number in each step.
            torch._foreach_add_(
                steps, torch.tensor(by, dtype=torch.float32, device=device), alpha=1.0
            )
        else:
            torch._foreach_add_(steps, by)


def skip_flag(hyper: Hyper, device: torch.device) -> Tensor | None:
    """Return a boolean tensor that says whether to leave everything as it is, or ``None``."""
    reasons = [
        flag.to(device, non_blocking=device.type != "cpu").reshape(()) != 0
        for flag in (hyper.found_inf, hyper.noop_flag)
        if flag is not None
    ]
    if not reasons:
        return None
    return reasons[0] if len(reasons) == 1 else reasons[0] | reasons[1]


def step_number(tensors: TensorLists, index: int, hyper: Hyper, back: bool = False) -> Scalar:
    """Return the number of this step, or of the one to undo; a tensor if it is on a device."""
    if tensors.steps is None:
        return float(hyper.step)
    step = tensors.steps[index]
    ahead = 0.0 if back else 1.0
    return float(step) + ahead if step.device.type == "cpu" else exactly(step) + ahead


def exactly(number: Tensor) -> Tensor:
    """Return a number in float64, or in float32 on a device that has no float64."""
    return number.double() if has_float64(number.device) else number.float()


@cache
def has_float64(device: torch.device) -> bool:
    """Return whether a device computes in float64."""
    known = _FLOAT64.get(device.type)
    if known is not None:
        return known
    try:
        torch.ones((), dtype=torch.float64, device=device).add_(1.0)
    except (RuntimeError, TypeError):
        return False
    return True


def correction(beta: float, time: Scalar) -> Scalar:
    """Return the bias correction of a moment for its start at zero: ``1 - beta**time``."""
    if isinstance(time, Tensor) and time.dtype == torch.float32 and beta > 0.0:
        # If the difference is small, a power would leave few correct digits.
        return -torch.expm1(time * math.log(beta))
    return 1.0 - beta**time


def square_root(value: Scalar) -> Scalar:
    """Return a scalar's root."""
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def scaled_eps(eps: float, root: Scalar, kind: torch.dtype) -> Scalar:
    """Return `eps` times a correction's root; not 0 if the type can hold `eps`, to avoid 0 / 0."""
    tiny = 2.0**-1074 if kind == torch.float64 else 2.0**-149
    if eps <= tiny / 2:
        return 0.0
    return (eps * root).clamp(min=tiny) if isinstance(root, Tensor) else max(eps * root, tiny)


def learning_rate(hyper: Hyper, like: Tensor) -> Scalar:
    """Return the learning rate, as `exactly` does."""
    if hyper.lr_tensor is None:
        return hyper.lr
    return _as_given(hyper.lr_tensor, like)


def grad_factor(hyper: Hyper, like: Tensor, *, maximize: bool) -> Scalar:
    """Return the factor of the gradients: 1 / grad_scale, negative to maximize."""
    factor: Scalar = 1.0
    if hyper.grad_scale is not None:
        factor = 1.0 / _as_given(hyper.grad_scale, like)
    return narrow(-factor if maximize else factor, like)


def _as_given(scalar: Tensor, like: Tensor) -> Tensor:
    """Return a scalar as `exactly` does, rounded to float32 first if kernels take it so."""
    given = scalar if like.dtype == torch.float64 else scalar.float()
    return exactly(given.to(like.device)).reshape(())


def narrow(value: Scalar, like: Tensor) -> Scalar:
    """Round a scalar once to the type of the computation, as the kernels do."""
    return value.to(like) if isinstance(value, Tensor) else value


def root(x: Tensor) -> Tensor:
    """Return the correctly rounded root; torch's own is not, in float32 on the CPU."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return x.double().sqrt().float()
    return x.sqrt()


def times(x: Tensor, factor: Scalar) -> Tensor:
    """Return a product; `x` itself if the factor is known to be 1."""
    return x if isinstance(factor, float) and factor == 1.0 else x * factor
