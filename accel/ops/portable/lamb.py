"""LAMB in Triton: see ``accel/lamb.h`` for the arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops import abi
from accel.ops.portable.optimizer import (
    Launcher,
    extras_of,
    factor_at,
    load_grad,
    load_param,
    load_state,
    own_elements,
    own_slots,
    own_tensor,
    rate_at,
    row_of,
    seed_at,
    state_at,
    steps_done,
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


@triton.jit
def moments_kernel(
    rows: Value, owners: Value,
    beta1: tl.float32, m_weight: tl.float32, beta2: tl.float32, v_weight: tl.float32,
    eps: tl.float32, weight_decay: tl.float32, lr: tl.float32, seed: tl.int64,
    grad_factor: tl.float32, INSIDE: tl.constexpr, ON_DEVICE: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step the moments of `SIZE` elements and add to the norms of their tensor."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    if STOCHASTIC:
        seed = seed_at(row, seed, 1)
    if ON_DEVICE:
        grad_factor = factor_at(rows, grad_factor)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    m = load_state(row, at, mask, 0, STATE, ALIGNED) * beta1 + g * m_weight
    v = load_state(row, at, mask, 1, STATE, ALIGNED) * beta2 + v_weight * g * g
    store_state(row, at, mask, m, seed, 0, STATE, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, v, seed, 1, STATE, STOCHASTIC, ALIGNED)
    if STATE != 0:
        # The norm is that of what is stored.
        tl.debug_barrier()
        m = load_state(row, at, mask, 0, STATE, ALIGNED)
        v = load_state(row, at, mask, 1, STATE, ALIGNED)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    u = tl.where(mask, _direction(p, m, v, eps, weight_decay, INSIDE), 0.0)
    norms = state_at(row, 2).to(tl.pointer_type(tl.float64))
    # Nothing is there to be added where the step is skipped.
    tl.atomic_add(norms, tl.sum(p.to(tl.float64) * p.to(tl.float64)))
    tl.atomic_add(norms + 1, tl.sum(u.to(tl.float64) * u.to(tl.float64)))


@triton.jit
def apply_kernel(
    rows: Value, owners: Value,
    eps: tl.float32, weight_decay: tl.float32, max_coeff: tl.float32, min_coeff: tl.float32,
    correction: tl.float32, log_beta1: tl.float32, log_beta2: tl.float32, lr: tl.float32,
    seed: tl.int64, grad_factor: tl.float32, INSIDE: tl.constexpr, STEPS: tl.constexpr,
    AHEAD: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step `SIZE` elements of a parameter, by what the norms of their tensor give."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    if STOCHASTIC:
        seed = seed_at(row, seed, AHEAD)
    norms = state_at(row, 2).to(tl.pointer_type(tl.float64))
    rate = rate_at(rows, lr)
    if STEPS:
        t = steps_done(row) + AHEAD
        rate = rate * tl.sqrt(1.0 - tl.exp(t * log_beta2)) / (1.0 - tl.exp(t * log_beta1))
    else:
        rate = rate * correction
    rate = rate * _coefficient(tl.load(norms), tl.load(norms + 1), max_coeff, min_coeff)
    m = load_state(row, at, mask, 0, STATE, ALIGNED)
    v = load_state(row, at, mask, 1, STATE, ALIGNED)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    p = p - _direction(p, m, v, eps, weight_decay, INSIDE) * rate.to(tl.float32)
    store_param(row, at, mask, p, seed, PARAM, MASTER, STOCHASTIC, ALIGNED)


@triton.jit
def clear_kernel(rows: Value, count: tl.int32, WIDTH: tl.constexpr, SIZE: tl.constexpr) -> None:
    """Set the norms of `SIZE` tensors to zero."""
    slots, mask = own_slots(rows, count, SIZE)
    norms = extras_of(rows, slots, mask, 2, WIDTH).to(tl.pointer_type(tl.float64))
    tl.store(norms, tl.zeros((SIZE,), tl.float64), mask)
    tl.store(norms + 1, tl.zeros((SIZE,), tl.float64), mask)


@triton.jit
def coefficients_kernel(
    rows: Value, count: tl.int32, max_coeff: tl.float32, min_coeff: tl.float32,
    WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Write the coefficients of `SIZE` tensors."""
    slots, mask = own_slots(rows, count, SIZE)
    norms = extras_of(rows, slots, mask, 2, WIDTH).to(tl.pointer_type(tl.float64))
    of_p, of_u = tl.load(norms, mask, other=0.0), tl.load(norms + 1, mask, other=0.0)
    coeffs = extras_of(rows, slots, mask, 3, WIDTH).to(tl.pointer_type(tl.float32))
    tl.store(coeffs, _coefficient(of_p, of_u, max_coeff, min_coeff).to(tl.float32), mask)


def lamb_step(args: Any, device: torch.device) -> None:
    """Do what ``accel_lamb_step`` does, on the device's current stream.

    Args:
        args: an `accel.ops.abi.LambArgs`.
        device: where the tensors are.
    """
    flags = args.flags
    both = {"eps": args.eps, "weight_decay": args.weight_decay}
    inside = bool(flags & abi.LAMB_EPS_INSIDE)
    maximize = bool(flags & abi.LAMB_MAXIMIZE)
    moments = bool(flags & abi.LAMB_MOMENTS)
    launcher = Launcher(args, device, ("exp_avgs", "exp_avg_sqs"), ("norms", "coeffs"))
    if moments:
        launcher.each(clear_kernel)
        numbers = {
            "beta1": args.beta1,
            "m_weight": 1.0 - args.beta1,
            "beta2": args.beta2,
            "v_weight": 1.0 - args.beta2,
        }
        constants = {"INSIDE": inside, "ON_DEVICE": bool(args.grad_scale)}
        launcher.step(moments_kernel, both | numbers, constants, maximize=maximize)
    if flags & abi.LAMB_APPLY:
        bounds = {"max_coeff": args.max_coeff, "min_coeff": args.min_coeff}
        if args.coeffs:
            launcher.each(coefficients_kernel, **bounds)
        correct = bool(flags & abi.LAMB_BIAS_CORRECTION)
        # A call that only applies comes after the one that counted.
        constants = {"INSIDE": inside, "STEPS": correct and bool(args.steps), "AHEAD": moments}
        numbers = both | bounds | _corrections(args, correct)
        launcher.step(apply_kernel, numbers, constants, maximize=maximize)
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
