"""Adagrad in Triton: see ``accel/adagrad.h`` for the arithmetic."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops import abi
from accel.ops.portable.optimizer import (
    Launcher,
    factor_at,
    load_grad,
    load_param,
    load_state,
    own_elements,
    own_tensor,
    rate_at,
    row_of,
    seed_at,
    steps_done,
    store_param,
    store_state,
)


@triton.jit
def adagrad_kernel(
    rows: Value, owners: Value,
    l2: tl.float32, eps: tl.float32, lr_decay: tl.float32, slowdown: tl.float32,
    step_size: tl.float32, lr: tl.float32, seed: tl.int64, grad_factor: tl.float32,
    L2: tl.constexpr, STEPS: tl.constexpr, ON_DEVICE: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step `SIZE` elements of one tensor of the table."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    if STOCHASTIC:
        seed = seed_at(row, seed, 1)
    if ON_DEVICE:
        rate = rate_at(rows, lr)
        grad_factor = factor_at(rows, grad_factor)
        rate = rate / (1.0 + steps_done(row) * lr_decay) if STEPS else rate / slowdown
        step_size = rate.to(tl.float32)
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
        args: an `accel.ops.abi.AdagradArgs`.
        device: where the tensors are.
    """
    slowdown = 1.0 + (args.step - 1) * args.lr_decay
    numbers = {
        "l2": args.weight_decay,
        "eps": args.eps,
        "lr_decay": args.lr_decay,
        "slowdown": slowdown,
        "step_size": args.lr / slowdown,
    }
    constants = {
        "L2": args.weight_decay != 0.0,
        "STEPS": bool(args.steps),
        "ON_DEVICE": bool(args.steps or args.lr_tensor or args.grad_scale),
    }
    launcher = Launcher(args, device, ("sums",))
    maximize = bool(args.flags & abi.ADAGRAD_MAXIMIZE)
    launcher.step(adagrad_kernel, numbers, constants, maximize=maximize)
    launcher.count()
