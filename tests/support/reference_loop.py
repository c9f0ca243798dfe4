"""The references as a loop over tensors, for tests of those that step in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.random_keys import random_key
from accel.ops.optimizers.reference.adagrad import ADAGRAD_MAXIMIZE
from accel.ops.optimizers.reference.adam import (
    ADAM_ADAMW,
    ADAM_AMSGRAD,
    ADAM_BIAS_CORRECTION,
    ADAM_MAXIMIZE,
    ADAM_ROLLBACK,
)
from accel.ops.optimizers.reference.common import scaled_eps
from accel.ops.optimizers.reference.lamb import (
    LAMB_APPLY,
    LAMB_BIAS_CORRECTION,
    LAMB_EPS_INSIDE,
    LAMB_MAXIMIZE,
    LAMB_MOMENTS,
    PHASES,
)
from accel.ops.optimizers.reference.lion import LION_MAXIMIZE
from accel.ops.rounding import store

Formula = Callable[[Tensor, Tensor, list[Tensor], Any, float], tuple[Tensor, list[Tensor]]]


@torch.no_grad()
def _step_each(
    tensors: TensorLists,
    hyper: Any,
    states: Sequence[str],
    update: Formula,
    *,
    back: bool = False,
) -> None:
    present = [role for role in states if role in tensors.roles]
    for index in range(len(tensors.params)):
        if tensors.params[index].numel():
            _step_one(tensors, index, hyper, present, update, back)
    count_steps(tensors, hyper, -1.0 if back else 1.0)


def _step_one(
    tensors: TensorLists,
    index: int,
    hyper: Any,
    states: Sequence[str],
    update: Formula,
    back: bool,
) -> None:
    param = tensors.params[index]
    main = tensors.roles.get("masters", tensors.params)[index]
    kept = [tensors.roles[role][index] for role in states]
    wide = torch.float64 if param.dtype == torch.float64 else torch.float32
    p, grad = main.to(wide), tensors.grads[index].to(wide)
    old = [state.to(wide) for state in kept]
    time = step_number(tensors, index, hyper, back)
    new_p, new = update(p, grad, old, hyper, time)

    skip = skip_flag(hyper, param.device)
    if skip is not None:
        new_p = torch.where(skip, p, new_p)
        new = [torch.where(skip, before, after) for before, after in zip(old, new, strict=True)]
    number, start = tensors.numbers[index], tensors.start(index)
    for stream, (state, after) in enumerate(zip(kept, new, strict=True), start=1):
        store(state, after, hyper.rounding, random_key(hyper.seed, time, number, stream), start)
    if main is not param:
        main.copy_(new_p)
        if skip is not None:
            new_p = torch.where(skip, param.to(wide), new_p)
    store(param, new_p, hyper.rounding, random_key(hyper.seed, time, number, 0), start)


def count_steps(tensors: TensorLists, hyper: Any, by: float) -> None:
    """Count the step of every tensor, unless it is skipped."""
    for step, param in zip(tensors.steps or (), tensors.params, strict=False):
        skip = skip_flag(hyper, param.device)
        step.add_(by if skip is None else torch.where(skip.to(step.device), 0.0, by))


def skip_flag(hyper: Any, device: torch.device) -> Any:
    """Return a boolean tensor that says whether to leave everything as it is, or ``None``."""
    reasons = [
        flag.to(device, non_blocking=device.type != "cpu").reshape(()) != 0
        for flag in (hyper.found_inf, hyper.noop_flag)
        if flag is not None
    ]
    if not reasons:
        return None
    return reasons[0] if len(reasons) == 1 else reasons[0] | reasons[1]


def step_number(tensors: TensorLists, index: int, hyper: Any, back: bool = False) -> Any:
    """Return the number of this step, or of the one to undo; a tensor where a device knows it."""
    if tensors.steps is None:
        return float(hyper.step)
    step = tensors.steps[index]
    ahead = 0.0 if back else 1.0
    return float(step) + ahead if step.device.type == "cpu" else step.double() + ahead


def learning_rate(hyper: Any, like: Tensor) -> Any:
    """Return the learning rate, in double."""
    if hyper.lr_tensor is None:
        return hyper.lr
    return _as_given(hyper.lr_tensor, like)


def grad_factor(hyper: Any, like: Tensor, *, maximize: bool) -> Any:
    """Return what gradients are multiplied by: 1 / grad_scale, negative to maximize."""
    factor: Any = 1.0
    if hyper.grad_scale is not None:
        factor = 1.0 / _as_given(hyper.grad_scale, like)
    return narrow(-factor if maximize else factor, like)


def _as_given(scalar: Tensor, like: Tensor) -> Any:
    """Return a scalar in double, rounded first to float32 where kernels take it so."""
    here = scalar.to(like.device)
    return (here if like.dtype == torch.float64 else here.float()).double().reshape(())


def narrow(value: Any, like: Tensor) -> Any:
    """Round a scalar once to the type of the computation, as the kernels do."""
    return value.to(like) if isinstance(value, Tensor) else value


def root(x: Tensor) -> Tensor:
    """Return the correctly rounded root; torch's own is not, in float32 on the CPU."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return x.double().sqrt().float()
    return x.sqrt()


def adam(tensors: TensorLists, hyper: Any) -> None:
    back = bool(hyper.flags & ADAM_ROLLBACK)
    states = ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")
    _step_each(tensors, hyper, states, _adam_undo if back else _adam, back=back)


def _sqrt(value: Any) -> Any:
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def _factors(like: Tensor, hyper: Any, time: Any, flags: int) -> tuple[Any, Any, Any, Any]:
    """Return gradient factor, what the decay keeps, step size and what is added to the root."""
    lr = learning_rate(hyper, like)
    correct = bool(flags & ADAM_BIAS_CORRECTION)
    c1 = 1.0 - hyper.beta1**time if correct else 1.0
    root_c2 = _sqrt(1.0 - hyper.beta2**time) if correct else 1.0
    keep = 1.0 - lr * hyper.weight_decay if flags & ADAM_ADAMW else 1.0
    return (
        grad_factor(hyper, like, maximize=bool(flags & ADAM_MAXIMIZE)),
        narrow(keep, like),
        narrow(lr * root_c2 / c1, like),
        narrow(scaled_eps(hyper.eps, root_c2, like.dtype), like),
    )


def _gradient(p: Tensor, grad: Tensor, factor: Any, hyper: Any, flags: int) -> Tensor:
    g: Tensor = grad * factor
    if hyper.weight_decay != 0.0 and not flags & ADAM_ADAMW:
        g = g + p * hyper.weight_decay
    return g


def _adam(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: Any, time: Any
) -> tuple[Tensor, list[Tensor]]:
    """Return parameter and states after step number `time`; `flags` is a sum of ``ADAM_*``."""
    flags = hyper.flags
    factor, keep, step_size, eps = _factors(p, hyper, time, flags)
    m, v = states[:2]
    g = _gradient(p, grad, factor, hyper, flags)
    if 1.0 - hyper.beta1 >= 0.5:
        m = g + (g - m) * -hyper.beta1
    else:
        m = m + (g - m) * (1.0 - hyper.beta1)
    v = v * hyper.beta2 + g * (1.0 - hyper.beta2) * g
    new = [m, v]
    if flags & ADAM_AMSGRAD:
        new.append(torch.maximum(states[2], v))
    return p * keep - m * step_size / (root(new[-1]) + eps), new


def _adam_undo(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: Any, time: Any
) -> tuple[Tensor, list[Tensor]]:
    factor, keep, step_size, eps = _factors(p, hyper, time, hyper.flags)
    m, v = states
    before = (p + m * step_size / (root(v) + eps)) / keep
    g = _gradient(before, grad, factor, hyper, hyper.flags)
    m = (m - g * (1.0 - hyper.beta1)) / hyper.beta1
    v = (v - g * (1.0 - hyper.beta2) * g) / hyper.beta2
    return before, [m, v.clamp(min=0.0)]


def adagrad(tensors: TensorLists, hyper: Any) -> None:
    _step_each(tensors, hyper, ("sums",), _adagrad)


def _adagrad(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: Any, time: Any
) -> tuple[Tensor, list[Tensor]]:
    rate = learning_rate(hyper, p) / (1.0 + (time - 1.0) * hyper.lr_decay)
    g = grad * grad_factor(hyper, p, maximize=bool(hyper.flags & ADAGRAD_MAXIMIZE))
    if hyper.weight_decay != 0.0:
        g = g + p * hyper.weight_decay
    total = states[0] + g * g
    return p - g * narrow(rate, p) / (root(total) + hyper.eps), [total]


def lion(tensors: TensorLists, hyper: Any) -> None:
    _step_each(tensors, hyper, ("exp_avgs",), _lion)


def _lion(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: Any, time: Any
) -> tuple[Tensor, list[Tensor]]:
    lr = learning_rate(hyper, p)
    g = grad * grad_factor(hyper, p, maximize=bool(hyper.flags & LION_MAXIMIZE))
    (m,) = states
    c = m * hyper.beta1 + g * (1.0 - hyper.beta1)
    # torch.sign makes 0 of NaN; here NaN stays visible.
    direction = torch.where(c.isnan(), c, c.sign())
    m = m * hyper.beta2 + g * (1.0 - hyper.beta2)
    keep = narrow(1.0 - lr * hyper.weight_decay, p)
    return p * keep - direction * narrow(lr, p), [m]


@torch.no_grad()
def lamb(tensors: TensorLists, hyper: Any) -> None:
    """Do the phases that `hyper.flags` names on every tensor of checked lists."""
    for index, param in enumerate(tensors.params):
        wide = torch.float64 if param.dtype == torch.float64 else torch.float32
        skip = skip_flag(hyper, param.device)
        if hyper.flags & LAMB_MOMENTS:
            _moments(tensors, index, hyper, wide, skip)
        if hyper.flags & LAMB_APPLY:
            _apply(tensors, index, hyper, wide, skip)
    if hyper.flags & LAMB_MOMENTS:
        count_steps(tensors, hyper, 1.0)


def _moments(
    tensors: TensorLists, index: int, hyper: Any, wide: torch.dtype, skip: Tensor | None
) -> None:
    roles = tensors.roles
    exp_avg, exp_avg_sq = roles["exp_avgs"][index], roles["exp_avg_sqs"][index]
    m, v = exp_avg.to(wide), exp_avg_sq.to(wide)
    g = roles["grads"][index].to(wide)
    g = g * grad_factor(hyper, g, maximize=bool(hyper.flags & LAMB_MAXIMIZE))
    new_m = m * hyper.beta1 + g * (1.0 - hyper.beta1)
    new_v = v * hyper.beta2 + g * (1.0 - hyper.beta2) * g
    if skip is not None:
        new_m, new_v = torch.where(skip, m, new_m), torch.where(skip, v, new_v)
    time = step_number(tensors, index, hyper)
    number, start = tensors.numbers[index], tensors.start(index)
    store(exp_avg, new_m, hyper.rounding, random_key(hyper.seed, time, number, 1), start)
    store(exp_avg_sq, new_v, hyper.rounding, random_key(hyper.seed, time, number, 2), start)
    p, u = _direction(tensors, index, hyper, wide)
    squares = [p.double().square().sum(), u.double().square().sum()]
    tensors.extras["norms"][index].copy_(torch.stack(squares))


def _direction(
    tensors: TensorLists, index: int, hyper: Any, wide: torch.dtype
) -> tuple[Tensor, Tensor]:
    roles = tensors.roles
    p = roles.get("masters", roles["params"])[index].to(wide)
    m, v = roles["exp_avgs"][index].to(wide), roles["exp_avg_sqs"][index].to(wide)
    inside = bool(hyper.flags & LAMB_EPS_INSIDE)
    denominator = root(v + hyper.eps) if inside else root(v) + hyper.eps
    return p, m / denominator + p * hyper.weight_decay


def _apply(
    tensors: TensorLists, index: int, hyper: Any, wide: torch.dtype, skip: Tensor | None
) -> None:
    roles = tensors.roles
    norms = tensors.extras["norms"][index]
    ratio = norms[0].sqrt() / norms[1].sqrt()
    ratio = ratio.clamp(hyper.min_coeff, hyper.max_coeff)
    coeff = torch.where((norms == 0.0).any(), 1.0, ratio)
    if "coeffs" in tensors.extras:
        tensors.extras["coeffs"][index].copy_(coeff)
    # The moments' phase of the same call has not counted the step yet.
    both = hyper.flags & PHASES == PHASES
    p, u = _direction(tensors, index, hyper, wide)
    time = step_number(tensors, index, hyper, back=not both)
    rate = _rate(hyper, p, time) * coeff
    new_p = p - u * narrow(rate, p)
    param, main = roles["params"][index], roles.get("masters", roles["params"])[index]
    if skip is not None:
        new_p = torch.where(skip, p, new_p)
    if main is not param:
        main.copy_(new_p)
        if skip is not None:
            new_p = torch.where(skip, param.to(wide), new_p)
    key = random_key(hyper.seed, time, tensors.numbers[index], 0)
    store(param, new_p, hyper.rounding, key, tensors.start(index))


def _rate(hyper: Any, like: Tensor, time: Any) -> Any:
    lr = learning_rate(hyper, like)
    if not hyper.flags & LAMB_BIAS_CORRECTION:
        return lr
    c1, c2 = 1.0 - hyper.beta1**time, 1.0 - hyper.beta2**time
    return lr * (c2.sqrt() if isinstance(c2, Tensor) else math.sqrt(c2)) / c1
