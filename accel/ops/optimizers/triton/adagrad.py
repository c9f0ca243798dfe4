"""Adagrad in Triton: see ``accel/adagrad.h`` for the arithmetic."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.reference.adagrad import ADAGRAD_MAXIMIZE
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
def adagrad_scalars_kernel(
    rows: Value, count: tl.int32, lr: tl.float32, grad_factor: tl.float32, lr_decay: tl.float32,
    slowdown: tl.float32, STEPS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Store gradient factor and step size."""
    slots, mask = own_slots(rows, count, SIZE)
    rate = rate_at(rows, lr)
    if STEPS:
        rate = rate / (1.0 + steps_of(rows, slots, mask, WIDTH) * lr_decay)
    else:
        rate = rate / slowdown
    leave_scalar(rows, slots, mask, 0, factor_at(rows, grad_factor), WIDTH)
    leave_scalar(rows, slots, mask, 1, rate.to(tl.float32), WIDTH)


@triton.jit(do_not_specialize=["seed"])
def adagrad_kernel(
    rows: Value, owners: Value,
    l2: tl.float32, eps: tl.float32, step_size: tl.float32, seed: tl.int64,
    grad_factor: tl.float32,
    L2: tl.constexpr, ON_DEVICE: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step `SIZE` elements of one tensor of the table."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    if STOCHASTIC:
        seed = seed_at(row, seed, 1)
    if ON_DEVICE:
        grad_factor, step_size = scalar_left(row, 0, WIDTH), scalar_left(row, 1, WIDTH)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    total = load_state(row, at, mask, 0, STATE, ALIGNED)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    if L2:
        g = g + l2 * p
    total = total + g * g
    p = p - tl.div_rn(step_size * g, tl.sqrt_rn(total) + eps)
    store_param(row, at, mask, p, seed, PARAM, MASTER, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, total, seed, 0, STATE, STOCHASTIC, ALIGNED)


def adagrad_step(args: Any, device: torch.device) -> None:
    """Do what ``accel_adagrad_step`` does, on the device's current stream.

    Args:
        args: an ``accel_adagrad_args``.
        device: the tensors' device.
    """
    slowdown = 1.0 + (args.step - 1) * args.lr_decay
    numbers = {
        "l2": args.weight_decay,
        "eps": args.eps,
        "step_size": args.lr / slowdown,
    }
    constants = {
        "L2": args.weight_decay != 0.0,
        "ON_DEVICE": bool(args.steps or args.lr_tensor or args.grad_scale),
    }
    maximize = bool(args.flags & ADAGRAD_MAXIMIZE)
    launcher = Launcher(args, device, ("sums",), maximize=maximize)
    if constants["ON_DEVICE"]:
        scalars = {"lr_decay": args.lr_decay, "slowdown": slowdown}
        launcher.scalars(adagrad_scalars_kernel, scalars)
    launcher.step(adagrad_kernel, numbers, constants)
    launcher.count()
