"""Adam, AdamW and AMSGrad in Triton: see ``accel/adam.h`` for the arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.reference.adam import (
    ADAM_ADAMW,
    ADAM_AMSGRAD,
    ADAM_BIAS_CORRECTION,
    ADAM_MAXIMIZE,
    ADAM_ROLLBACK,
)
from accel.ops.optimizers.reference.common import scaled_eps
from accel.ops.optimizers.triton.launch import Launcher
from accel.ops.optimizers.triton.optimizer import (
    factor_at,
    leave_scalar,
    load_grad,
    load_param,
    load_state,
    own_elements,
    own_slots,
    own_tensor,
    rate_at,
    row_of,
    scalar_left,
    seed_at,
    steps_of,
    store_param,
    store_state,
)


@triton.jit
def adam_update(
    p: Value, g: Value, m: Value, v: Value, max_v: Value, m_weight: Value, v_weight: Value,
    beta2: Value, eps: Value, keep: Value, step_size: Value,
    FROM_GRAD: tl.constexpr, AMSGRAD: tl.constexpr,
) -> Value:  # fmt: skip
    """Return parameter, moments and the divisor, after the step."""
    # As in torch's lerp, computed from the nearer end, so that a weight of 1 gives g exactly.
    base = g if FROM_GRAD else m
    m = base + m_weight * (g - m)
    v = beta2 * v + v_weight * g * g
    second = v
    if AMSGRAD:
        second = tl.where((max_v > v) | (max_v != max_v), max_v, v)  # noqa: PLR0124 - NaN wins
    return p * keep - tl.div_rn(step_size * m, tl.sqrt_rn(second) + eps), m, v, second


@triton.jit
def _undo(
    p: Value, grad: Value, m: Value, v: Value, l2: Value, m_weight: Value, v_weight: Value,
    beta1: Value, beta2: Value, eps: Value, keep: Value, step_size: Value, L2: tl.constexpr,
) -> Value:  # fmt: skip
    p = tl.div_rn(p + tl.div_rn(step_size * m, tl.sqrt_rn(v) + eps), keep)
    g = grad
    if L2:
        g = g + l2 * p
    m = tl.div_rn(m - (1.0 - beta1) * g, beta1)
    v = tl.div_rn(v - v_weight * g * g, beta2)
    return p, m, tl.where(v < 0.0, 0.0, v)


@triton.jit(do_not_specialize=["count"])
def adam_scalars_kernel(
    rows: Value, count: tl.int32, lr: tl.float32, grad_factor: tl.float32, decay: tl.float32,
    eps: tl.float32, c1: tl.float32, root_c2: tl.float32, log_beta1: tl.float32,
    log_beta2: tl.float32, STEPS: tl.constexpr, AHEAD: tl.constexpr, WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Store gradient factor, decay factor, step size and scaled eps."""
    # In float64, because 1 - beta^t loses digits in float32.
    slots, mask = own_slots(rows, count, SIZE)
    one = tl.full((), 1.0, tl.float64)
    rate = rate_at(rows, lr)
    d1, root_d2 = one * c1, one * root_c2
    if STEPS:
        t = steps_of(rows, slots, mask, WIDTH) + AHEAD
        d1, root_d2 = one - tl.exp(t * log_beta1), tl.sqrt(one - tl.exp(t * log_beta2))
        # Not 0 unless eps is 0, so that 0 / eps stays 0.
        scaled = (eps * root_d2).to(tl.float32)
        smallest = tl.full((), 1, tl.int32).to(tl.float32, bitcast=True)
        eps = tl.where((scaled == 0.0) & (eps != 0.0), smallest, scaled)
    leave_scalar(rows, slots, mask, 0, factor_at(rows, grad_factor), WIDTH)
    leave_scalar(rows, slots, mask, 1, (one - rate * decay).to(tl.float32), WIDTH)
    leave_scalar(rows, slots, mask, 2, (rate * root_d2 / d1).to(tl.float32), WIDTH)
    leave_scalar(rows, slots, mask, 3, eps, WIDTH)


@triton.jit
def scalars_on_device(row: Value, WIDTH: tl.constexpr) -> Value:
    """Return the scalars that `adam_scalars_kernel` stored for the row's tensor."""
    return (
        scalar_left(row, 0, WIDTH), scalar_left(row, 1, WIDTH), scalar_left(row, 2, WIDTH),
        scalar_left(row, 3, WIDTH),
    )  # fmt: skip


@triton.jit(do_not_specialize=["seed"])
def adam_kernel(
    rows: Value, owners: Value,
    l2: tl.float32, keep: tl.float32, m_weight: tl.float32, v_weight: tl.float32,
    beta1: tl.float32, beta2: tl.float32, eps: tl.float32, step_size: tl.float32,
    seed: tl.int64, grad_factor: tl.float32,
    L2: tl.constexpr, FROM_GRAD: tl.constexpr, AMSGRAD: tl.constexpr, ROLLBACK: tl.constexpr,
    ON_DEVICE: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step `SIZE` elements of one tensor of the table."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    if STOCHASTIC:
        seed = seed_at(row, seed, 0 if ROLLBACK else 1)
    if ON_DEVICE:
        grad_factor, keep, step_size, eps = scalars_on_device(row, WIDTH)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    m = load_state(row, at, mask, 0, STATE, ALIGNED)
    v = load_state(row, at, mask, 1, STATE, ALIGNED)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    max_v = v
    if AMSGRAD:
        max_v = load_state(row, at, mask, 2, STATE, ALIGNED)
    if ROLLBACK:
        p, m, v = _undo(p, g, m, v, l2, m_weight, v_weight, beta1, beta2, eps, keep, step_size, L2)
    else:
        if L2:
            g = g + l2 * p
        p, m, v, max_v = adam_update(p, g, m, v, max_v, m_weight, v_weight, beta2, eps, keep,
                                     step_size, FROM_GRAD, AMSGRAD)  # fmt: skip
    store_param(row, at, mask, p, seed, PARAM, MASTER, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, m, seed, 0, STATE, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, v, seed, 1, STATE, STOCHASTIC, ALIGNED)
    if AMSGRAD:
        store_state(row, at, mask, max_v, seed, 2, STATE, STOCHASTIC, ALIGNED)


def adam_step(args: Any, device: torch.device) -> None:
    """Do what ``accel_adam_step`` does, on the device's current stream.

    Args:
        args: an ``accel_adam_args``.
        device: the tensors' device.
    """
    flags = args.flags
    rollback = bool(flags & ADAM_ROLLBACK)
    constants = {
        "L2": not flags & ADAM_ADAMW and args.weight_decay != 0.0,
        "FROM_GRAD": 1.0 - args.beta1 >= 0.5,
        "AMSGRAD": bool(flags & ADAM_AMSGRAD),
        "ROLLBACK": rollback,
        "ON_DEVICE": bool(args.steps or args.lr_tensor or args.grad_scale),
    }
    states = ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")
    launcher = Launcher(args, device, states, maximize=bool(flags & ADAM_MAXIMIZE))
    numbers, scalars = adam_numbers(
        args, bool(flags & ADAM_ADAMW), bool(flags & ADAM_BIAS_CORRECTION)
    )
    if constants["ON_DEVICE"]:
        launcher.scalars(adam_scalars_kernel, scalars, AHEAD=0 if rollback else 1)
    launcher.step(adam_kernel, numbers, constants)
    launcher.count(-1.0 if rollback else 1.0)


def adam_numbers(
    args: Any, decoupled: bool, correct: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """Return a call's floats for the kernel over elements, and for the kernel over tensors."""
    counted = correct and not args.steps
    c1 = 1.0 - args.beta1**args.step if counted else 1.0
    root_c2 = math.sqrt(1.0 - args.beta2**args.step) if counted else 1.0
    decay = args.weight_decay if decoupled else 0.0
    from_grad = 1.0 - args.beta1 >= 0.5
    eps = float(scaled_eps(args.eps, root_c2, torch.float32))
    numbers = {
        "l2": args.weight_decay,
        "keep": 1.0 - args.lr * decay,
        "m_weight": -args.beta1 if from_grad else 1.0 - args.beta1,
        "v_weight": 1.0 - args.beta2,
        "beta1": args.beta1,
        "beta2": args.beta2,
        "eps": eps,
        "step_size": args.lr * root_c2 / c1,
    }
    scalars = {
        "decay": decay,
        "eps": eps,
        "c1": c1,
        "root_c2": root_c2,
        # Minus infinity makes a correction 1.
        "log_beta1": math.log(args.beta1) if correct and args.beta1 else -math.inf,
        "log_beta2": math.log(args.beta2) if correct and args.beta2 else -math.inf,
    }
    return numbers, scalars
