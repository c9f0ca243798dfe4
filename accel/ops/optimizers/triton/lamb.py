"""LAMB in Triton: see ``accel/lamb.h`` for the arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.reference.lamb import (
    LAMB_APPLY,
    LAMB_BIAS_CORRECTION,
    LAMB_EPS_INSIDE,
    LAMB_MAXIMIZE,
    LAMB_MOMENTS,
)
from accel.ops.optimizers.triton.launch import Launcher
from accel.ops.optimizers.triton.optimizer import (
    extras_of,
    factor_at,
    is_wanted,
    leave_scalar,
    load_grad,
    load_param,
    load_state,
    own_elements,
    own_slots,
    own_tensor,
    programs_of,
    rate_at,
    row_of,
    scalar_left,
    seed_at,
    state_at,
    steps_of,
    store_param,
    store_state,
)


@triton.jit
def _direction(
    p: Value, m: Value, v: Value, eps: Value, weight_decay: Value, INSIDE: tl.constexpr
) -> Value:
    denominator = tl.sqrt_rn(v + eps) if INSIDE else tl.sqrt_rn(v) + eps
    return tl.div_rn(m, denominator) + p * weight_decay


@triton.jit
def _coefficient(of_p: Value, of_u: Value, max_coeff: Value, min_coeff: Value) -> Value:
    ratio = tl.sqrt(of_p) / tl.sqrt(of_u)
    # In this order NaN stays NaN.
    bounded = tl.where(ratio > max_coeff, max_coeff, tl.where(ratio < min_coeff, min_coeff, ratio))
    return tl.where((of_p == 0.0) | (of_u == 0.0), 1.0, bounded)


@triton.jit(do_not_specialize=["count"])
def factor_kernel(
    rows: Value, count: tl.int32, lr: tl.float32, grad_factor: tl.float32,
    STEPS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Store the gradient factor."""
    slots, mask = own_slots(rows, count, SIZE)
    leave_scalar(rows, slots, mask, 0, factor_at(rows, grad_factor), WIDTH)


@triton.jit(do_not_specialize=["seed"])
def moments_kernel(
    rows: Value, owners: Value, partials: Value,
    beta1: tl.float32, m_weight: tl.float32, beta2: tl.float32, v_weight: tl.float32,
    eps: tl.float32, weight_decay: tl.float32, seed: tl.int64,
    grad_factor: tl.float32, INSIDE: tl.constexpr, ON_DEVICE: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step the moments of `SIZE` elements; store their part of the tensor's norms in `partials`."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    if STOCHASTIC:
        seed = seed_at(row, seed, 1)
    if ON_DEVICE:
        grad_factor = scalar_left(row, 0, WIDTH)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    m = load_state(row, at, mask, 0, STATE, ALIGNED) * beta1 + g * m_weight
    v = load_state(row, at, mask, 1, STATE, ALIGNED) * beta2 + v_weight * g * g
    store_state(row, at, mask, m, seed, 0, STATE, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, v, seed, 1, STATE, STOCHASTIC, ALIGNED)
    if STATE != 0:
        # The norm is that of the stored values.
        tl.debug_barrier()
        m = load_state(row, at, mask, 0, STATE, ALIGNED)
        v = load_state(row, at, mask, 1, STATE, ALIGNED)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    u = tl.where(mask, _direction(p, m, v, eps, weight_decay, INSIDE), 0.0)
    # No atomic additions, because their order, and so the sum's last bits, would vary.
    own = partials + tl.program_id(0) * 2
    tl.store(own, tl.sum(p.to(tl.float64) * p.to(tl.float64)))
    tl.store(own + 1, tl.sum(u.to(tl.float64) * u.to(tl.float64)))


@triton.jit
def norms_kernel(
    rows: Value, partials: Value, WIDTH: tl.constexpr, BLOCK: tl.constexpr, SIZE: tl.constexpr
) -> None:
    """Add up the norms of one tensor from the `partials` of its programs, in their order."""
    row = row_of(rows, tl.program_id(0), WIDTH)
    before, programs = programs_of(row, BLOCK, WIDTH)
    programs = tl.where(is_wanted(rows), programs, 0)
    of_p, of_u = tl.zeros((SIZE,), tl.float64), tl.zeros((SIZE,), tl.float64)
    first = partials + before * 2
    for start in range(0, programs, SIZE):
        at = start + tl.arange(0, SIZE)
        of_p += tl.load(first + at * 2, at < programs, other=0.0)
        of_u += tl.load(first + at * 2 + 1, at < programs, other=0.0)
    norms = state_at(row, 2).to(tl.pointer_type(tl.float64))
    tl.store(norms, tl.sum(of_p), is_wanted(rows))
    tl.store(norms + 1, tl.sum(of_u), is_wanted(rows))


@triton.jit(do_not_specialize=["seed"])
def apply_kernel(
    rows: Value, owners: Value,
    eps: tl.float32, weight_decay: tl.float32, seed: tl.int64, grad_factor: tl.float32,
    INSIDE: tl.constexpr, AHEAD: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step `SIZE` elements of a parameter, with the ratio from their tensor's norms."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    if STOCHASTIC:
        seed = seed_at(row, seed, AHEAD)
    m = load_state(row, at, mask, 0, STATE, ALIGNED)
    v = load_state(row, at, mask, 1, STATE, ALIGNED)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    p = p - _direction(p, m, v, eps, weight_decay, INSIDE) * scalar_left(row, 1, WIDTH)
    store_param(row, at, mask, p, seed, PARAM, MASTER, STOCHASTIC, ALIGNED)


@triton.jit(do_not_specialize=["count"])
def rates_kernel(
    rows: Value, count: tl.int32, lr: tl.float32, grad_factor: tl.float32,
    max_coeff: tl.float32, min_coeff: tl.float32, correction: tl.float32, log_beta1: tl.float32,
    log_beta2: tl.float32, CORRECT: tl.constexpr, COEFFS: tl.constexpr, AHEAD: tl.constexpr,
    STEPS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Write the coefficients of `SIZE` tensors, and store the rates of their elements."""
    slots, mask = own_slots(rows, count, SIZE)
    norms = extras_of(rows, slots, mask, 2, WIDTH).to(tl.pointer_type(tl.float64))
    of_p, of_u = tl.load(norms, mask, other=0.0), tl.load(norms + 1, mask, other=0.0)
    coefficient = _coefficient(of_p, of_u, max_coeff, min_coeff)
    if COEFFS:
        coeffs = extras_of(rows, slots, mask, 3, WIDTH).to(tl.pointer_type(tl.float32))
        tl.store(coeffs, coefficient.to(tl.float32), mask)
    rate = rate_at(rows, lr)
    if STEPS and CORRECT:
        t = steps_of(rows, slots, mask, WIDTH) + AHEAD
        rate = rate * tl.sqrt(1.0 - tl.exp(t * log_beta2)) / (1.0 - tl.exp(t * log_beta1))
    else:
        rate = rate * correction
    leave_scalar(rows, slots, mask, 1, (rate * coefficient).to(tl.float32), WIDTH)


def lamb_step(args: Any, device: torch.device) -> None:
    """Do what ``accel_lamb_step`` does, on the device's current stream.

    Args:
        args: an ``accel_lamb_args``.
        device: the tensors' device.
    """
    flags = args.flags
    both = {"eps": args.eps, "weight_decay": args.weight_decay}
    inside = bool(flags & LAMB_EPS_INSIDE)
    moments = bool(flags & LAMB_MOMENTS)
    launcher = Launcher(
        args, device, ("exp_avgs", "exp_avg_sqs"), ("norms", "coeffs"),
        maximize=bool(flags & LAMB_MAXIMIZE),
    )  # fmt: skip
    if moments:
        numbers = {
            "beta1": args.beta1,
            "m_weight": 1.0 - args.beta1,
            "beta2": args.beta2,
            "v_weight": 1.0 - args.beta2,
        }
        constants = {"INSIDE": inside, "ON_DEVICE": bool(args.grad_scale)}
        if args.grad_scale:
            launcher.scalars(factor_kernel, {})
        partials = launcher.partials()
        launcher.step(moments_kernel, both | numbers, constants, partials)
        launcher.sum(norms_kernel, partials)
    if flags & LAMB_APPLY:
        bounds = {"max_coeff": args.max_coeff, "min_coeff": args.min_coeff}
        correct = bool(flags & LAMB_BIAS_CORRECTION)
        scalars = bounds | _corrections(args, correct)
        # A call of the last phase alone follows a call that has counted the step.
        launcher.scalars(
            rates_kernel, scalars, CORRECT=correct, COEFFS=bool(args.coeffs), AHEAD=moments
        )
        launcher.step(apply_kernel, both, {"INSIDE": inside, "AHEAD": moments})
    if moments:
        launcher.count()


def _corrections(args: Any, correct: bool) -> dict[str, float]:
    c1 = 1.0 - args.beta1**args.step if correct and not args.steps else 1.0
    c2 = 1.0 - args.beta2**args.step if correct and not args.steps else 1.0
    return {
        "correction": math.sqrt(c2) / c1,
        "log_beta1": math.log(args.beta1) if args.beta1 else -math.inf,
        "log_beta2": math.log(args.beta2) if args.beta2 else -math.inf,
    }
