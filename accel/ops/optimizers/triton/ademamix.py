"""AdEMAMix in Triton: see ``accel/ademamix.h`` for the arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.ademamix import ADEMAMIX_MAXIMIZE, half_life, slow_rate, warmed
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


@triton.jit(do_not_specialize=["count"])
def ademamix_scalars_kernel(
    rows: Value, count: tl.int32, lr: tl.float32, grad_factor: tl.float32, decay: tl.float32,
    eps: tl.float32, c1: tl.float32, root_c2: tl.float32, log_beta1: tl.float32,
    log_beta2: tl.float32, beta3: tl.float32, slow_weight: tl.float32, first_life: tl.float32,
    last_life: tl.float32, alpha: tl.float32, alpha_steps: tl.float32, beta3_steps: tl.float32,
    STEPS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Store gradient factor, decay factor, eps, slow rate and weight, and step sizes."""
    # In float64, because 1 - beta^t loses digits in float32.
    slots, mask = own_slots(rows, count, SIZE)
    one = tl.full((), 1.0, tl.float64)
    rate = rate_at(rows, lr)
    d1, root_d2 = one * c1, one * root_c2
    if STEPS:
        t = steps_of(rows, slots, mask, WIDTH) + 1.0
        d1, root_d2 = one - tl.exp(t * log_beta1), tl.sqrt(one - tl.exp(t * log_beta2))
        # Not 0 unless eps is 0, so that 0 / eps stays 0.
        scaled = (eps * root_d2).to(tl.float32)
        smallest = tl.full((), 1, tl.int32).to(tl.float32, bitcast=True)
        eps = tl.where((scaled == 0.0) & (eps != 0.0), smallest, scaled)
        alpha = alpha * tl.minimum(t / alpha_steps, one)
        done = tl.minimum(t / beta3_steps, one)
        risen = tl.exp(-0.6931471805599453 / ((one - done) * first_life + done * last_life))
        beta3 = tl.where(done < 1.0, risen.to(tl.float32), beta3)
        slow_weight = tl.where(done < 1.0, (one - risen).to(tl.float32), slow_weight)
    leave_scalar(rows, slots, mask, 0, factor_at(rows, grad_factor), WIDTH)
    leave_scalar(rows, slots, mask, 1, (one - rate * decay).to(tl.float32), WIDTH)
    leave_scalar(rows, slots, mask, 2, eps, WIDTH)
    leave_scalar(rows, slots, mask, 3, beta3, WIDTH)
    leave_scalar(rows, slots, mask, 4, slow_weight, WIDTH)
    leave_scalar(rows, slots, mask, 5, (rate * root_d2 / d1).to(tl.float32), WIDTH)
    leave_scalar(rows, slots, mask, 6, (rate * root_d2 * alpha).to(tl.float32), WIDTH)


@triton.jit(do_not_specialize=["seed"])
def ademamix_kernel(
    rows: Value, owners: Value,
    keep: tl.float32, eps: tl.float32, beta1: tl.float32, m_weight: tl.float32,
    beta2: tl.float32, v_weight: tl.float32, beta3: tl.float32, slow_weight: tl.float32,
    step_size: tl.float32, slow_size: tl.float32, seed: tl.int64, grad_factor: tl.float32,
    ON_DEVICE: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step `SIZE` elements of one tensor of the table."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    if STOCHASTIC:
        seed = seed_at(row, seed, 1)
    if ON_DEVICE:
        grad_factor, keep, eps = (
            scalar_left(row, 0, WIDTH), scalar_left(row, 1, WIDTH), scalar_left(row, 2, WIDTH)
        )  # fmt: skip
        beta3, slow_weight = scalar_left(row, 3, WIDTH), scalar_left(row, 4, WIDTH)
        step_size, slow_size = scalar_left(row, 5, WIDTH), scalar_left(row, 6, WIDTH)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    m = load_state(row, at, mask, 0, STATE, ALIGNED)
    slow = load_state(row, at, mask, 1, STATE, ALIGNED)
    v = load_state(row, at, mask, 2, STATE, ALIGNED)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    m = m * beta1 + g * m_weight
    slow = slow * beta3 + g * slow_weight
    v = v * beta2 + v_weight * g * g
    change = m * step_size + slow * slow_size
    p = p * keep - tl.div_rn(change, tl.sqrt_rn(v) + eps)
    store_param(row, at, mask, p, seed, PARAM, MASTER, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, m, seed, 0, STATE, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, slow, seed, 1, STATE, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, v, seed, 2, STATE, STOCHASTIC, ALIGNED)


def ademamix_step(args: Any, device: torch.device) -> None:
    """Do what ``accel_ademamix_step`` does, on the device's current stream.

    Args:
        args: an ``accel_ademamix_args``.
        device: the tensors' device.
    """
    constants = {"ON_DEVICE": bool(args.steps or args.lr_tensor or args.grad_scale)}
    maximize = bool(args.flags & ADEMAMIX_MAXIMIZE)
    states = ("exp_avgs", "exp_avg_slows", "exp_avg_sqs")
    launcher = Launcher(args, device, states, maximize=maximize)
    numbers, scalars = _numbers(args)
    if constants["ON_DEVICE"]:
        launcher.scalars(ademamix_scalars_kernel, scalars)
    launcher.step(ademamix_kernel, numbers, constants)
    launcher.count()


def _numbers(args: Any) -> tuple[dict[str, float], dict[str, float]]:
    """Return a call's floats for the kernel over elements, and for the kernel over tensors."""
    step = math.inf if args.steps else args.step
    c1 = 1.0 - args.beta1**step
    root_c2 = math.sqrt(1.0 - args.beta2**step)
    alpha = args.alpha * warmed(step, args.alpha_warmup)
    beta3, slow_weight = slow_rate(args, step)
    slow = {"beta3": beta3, "slow_weight": slow_weight}
    eps = float(scaled_eps(args.eps, root_c2, torch.float32))
    numbers = {
        "keep": 1.0 - args.lr * args.weight_decay,
        "eps": eps,
        "beta1": args.beta1,
        "m_weight": 1.0 - args.beta1,
        "beta2": args.beta2,
        "v_weight": 1.0 - args.beta2,
        "step_size": args.lr * root_c2 / c1,
        "slow_size": args.lr * root_c2 * alpha,
        **slow,
    }
    scalars = {
        "decay": args.weight_decay,
        "eps": eps,
        "c1": c1,
        "root_c2": root_c2,
        "log_beta1": math.log(args.beta1) if args.beta1 else -math.inf,
        "log_beta2": math.log(args.beta2) if args.beta2 else -math.inf,
        "first_life": half_life(args.beta1),
        "last_life": half_life(args.beta3),
        "alpha": alpha,
        "alpha_steps": max(args.alpha_warmup, 1.0),
        "beta3_steps": max(args.beta3_warmup, 1.0),
        **slow,
    }
    return numbers, scalars
