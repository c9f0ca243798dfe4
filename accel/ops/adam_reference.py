"""Adam in plain PyTorch, on every device and for every layout: what ``accel/adam.h`` says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from accel.ops import abi
from accel.ops.lists import Hyper, TensorLists
from accel.ops.rounding import random_key, store

Scalar = float | Tensor
STATES = ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")


@dataclass(slots=True, kw_only=True)
class AdamHyper(Hyper):
    """The numbers of one step of Adam.

    Attributes:
        beta1: decay rate of the first moment, in [0, 1).
        beta2: decay rate of the second moment, in [0, 1).
        eps: added to the root of the second moment.
    """

    beta1: float
    beta2: float
    eps: float


@torch.no_grad()
def adam_reference(tensors: TensorLists, hyper: AdamHyper) -> None:
    """Step every tensor of the lists. Arguments are checked by the caller.

    Computes in float32, or float64 for float64 parameters, one rounding for each operation: on
    the CPU the bits are those of the native kernel. Never waits for a device: where
    `hyper.found_inf` or `hyper.noop_flag` forbid the step, the old values are written back.
    """
    for index in range(len(tensors.params)):
        if tensors.params[index].numel():
            _step_one(tensors, index, hyper)
    if tensors.steps is not None:
        for index, step in enumerate(tensors.steps):
            _advance(step, _skip(hyper, tensors.params[index].device), hyper)


def _advance(step: Tensor, skip: Tensor | None, hyper: AdamHyper) -> None:
    by = -1.0 if hyper.flags & abi.ADAM_ROLLBACK else 1.0
    step.add_(by if skip is None else torch.where(skip.to(step.device), 0.0, by))


def _skip(hyper: AdamHyper, device: torch.device) -> Tensor | None:
    """Return a boolean tensor that says whether to leave everything as it is, or ``None``."""
    reasons = [
        flag.to(device, non_blocking=device.type != "cpu").reshape(()) != 0
        for flag in (hyper.found_inf, hyper.noop_flag)
        if flag is not None
    ]
    if not reasons:
        return None
    return reasons[0] if len(reasons) == 1 else reasons[0] | reasons[1]


def _correction(beta: float, step: Scalar) -> Scalar:
    return 1.0 - beta**step


def _narrow(value: Scalar, like: Tensor) -> Scalar:
    """Round a scalar once to the type of the computation, as the kernels do."""
    return value.to(like) if isinstance(value, Tensor) else value


def _sqrt(value: Scalar) -> Scalar:
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def _step_one(tensors: TensorLists, index: int, hyper: AdamHyper) -> None:
    param = tensors.params[index]
    roles = tensors.roles
    main = roles.get("masters", roles["params"])[index]
    wide = torch.float64 if param.dtype == torch.float64 else torch.float32
    states = [roles[role][index] for role in STATES if role in roles]
    p = main.to(wide)
    old = [state.to(wide) for state in states]
    update = _undo if hyper.flags & abi.ADAM_ROLLBACK else _update
    new_p, new = update(p, tensors.grads[index].to(wide), old, hyper, _time(tensors, index, hyper))

    skip = _skip(hyper, param.device)
    if skip is not None:
        new_p = torch.where(skip, p, new_p)
        new = [torch.where(skip, before, after) for before, after in zip(old, new, strict=True)]
    for stream, (state, after) in enumerate(zip(states, new, strict=True), start=1):
        store(state, after, hyper.rounding, random_key(hyper.seed, index, stream))
    if main is not param:
        main.copy_(new_p)
        if skip is not None:
            new_p = torch.where(skip, param.to(wide), new_p)
    store(param, new_p, hyper.rounding, random_key(hyper.seed, index, 0))


def _time(tensors: TensorLists, index: int, hyper: AdamHyper) -> Scalar:
    """Return the step number: of this step, or of the one to undo."""
    if tensors.steps is None:
        return float(hyper.step)
    step = tensors.steps[index]
    ahead = 0.0 if hyper.flags & abi.ADAM_ROLLBACK else 1.0
    return float(step) + ahead if step.device.type == "cpu" else step.double() + ahead


def _factors(like: Tensor, hyper: AdamHyper, time: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """Return gradient factor, what the decay keeps, step size and root factor."""
    lr: Scalar = hyper.lr
    if hyper.lr_tensor is not None:
        lr = hyper.lr_tensor.to(like.device).double().reshape(())
    correct = bool(hyper.flags & abi.ADAM_BIAS_CORRECTION)
    c1 = _correction(hyper.beta1, time) if correct else 1.0
    c2 = _correction(hyper.beta2, time) if correct else 1.0
    factor: Scalar = 1.0
    if hyper.grad_scale is not None:
        factor = 1.0 / hyper.grad_scale.to(like.device).double().reshape(())
    if hyper.flags & abi.ADAM_MAXIMIZE:
        factor = -factor
    decoupled = hyper.flags & abi.ADAM_ADAMW
    keep = 1.0 - lr * hyper.weight_decay if decoupled else 1.0
    return (
        _narrow(factor, like),
        _narrow(keep, like),
        _narrow(lr / c1, like),
        _narrow(1.0 / _sqrt(c2), like),
    )


def _root(x: Tensor) -> Tensor:
    """Return the correctly rounded root; torch's own is not, in float32 on the CPU."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return x.double().sqrt().float()
    return x.sqrt()


def _decay_l2(hyper: AdamHyper) -> float:
    return 0.0 if hyper.flags & abi.ADAM_ADAMW else hyper.weight_decay


def _update(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: AdamHyper, time: Scalar
) -> tuple[Tensor, list[Tensor]]:
    factor, keep, step_size, root_factor = _factors(p, hyper, time)
    m, v = states[:2]
    g = grad * factor
    if _decay_l2(hyper) != 0.0:
        g = g + p * _decay_l2(hyper)
    if 1.0 - hyper.beta1 >= 0.5:
        m = g + (g - m) * -hyper.beta1
    else:
        m = m + (g - m) * (1.0 - hyper.beta1)
    v = v * hyper.beta2 + g * (1.0 - hyper.beta2) * g
    new = [m, v]
    if hyper.flags & abi.ADAM_AMSGRAD:
        new.append(torch.maximum(states[2], v))
    denominator = _root(new[-1]) * root_factor + hyper.eps
    return p * keep - m * step_size / denominator, new


def _undo(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: AdamHyper, time: Scalar
) -> tuple[Tensor, list[Tensor]]:
    factor, keep, step_size, root_factor = _factors(p, hyper, time)
    m, v = states
    before = (p + m * step_size / (_root(v) * root_factor + hyper.eps)) / keep
    g = grad * factor
    if _decay_l2(hyper) != 0.0:
        g = g + before * _decay_l2(hyper)
    m = (m - g * (1.0 - hyper.beta1)) / hyper.beta1
    v = (v - g * (1.0 - hyper.beta2) * g) / hyper.beta2
    return before, [m, v.clamp(min=0.0)]
