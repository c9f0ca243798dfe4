"""Lion in Triton: see ``accel/lion.h`` for the arithmetic."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.reference.lion import LION_MAXIMIZE
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
    store_param,
    store_state,
)


@triton.jit(do_not_specialize=["count"])
def lion_scalars_kernel(
    rows: Value, count: tl.int32, lr: tl.float32, grad_factor: tl.float32, decay: tl.float32,
    STEPS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Store gradient factor, decay factor and learning rate."""
    slots, mask = own_slots(rows, count, SIZE)
    rate = rate_at(rows, lr)
    leave_scalar(rows, slots, mask, 0, factor_at(rows, grad_factor), WIDTH)
    leave_scalar(rows, slots, mask, 1, (1.0 - rate * decay).to(tl.float32), WIDTH)
    leave_scalar(rows, slots, mask, 2, rate.to(tl.float32), WIDTH)


@triton.jit
def lion_update(
    p: Value, g: Value, m: Value, keep: Value, beta1: Value, g_weight: Value, beta2: Value,
    m_weight: Value, lr: Value,
) -> tuple[Value, Value]:  # fmt: skip
    """Return the new parameter and moment."""
    c = m * beta1 + g * g_weight
    # 0 and NaN, which are neither above nor below 0, stay as they are.
    direction = tl.where(c > 0.0, 1.0, tl.where(c < 0.0, -1.0, c))
    return p * keep - direction * lr, m * beta2 + g * m_weight


@triton.jit(do_not_specialize=["seed"])
def lion_kernel(
    rows: Value, owners: Value,
    keep: tl.float32, beta1: tl.float32, g_weight: tl.float32,
    beta2: tl.float32, m_weight: tl.float32, lr: tl.float32, seed: tl.int64,
    grad_factor: tl.float32, ON_DEVICE: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step `SIZE` elements of one tensor of the table."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    if STOCHASTIC:
        seed = seed_at(row, seed, 1)
    if ON_DEVICE:
        grad_factor, keep = scalar_left(row, 0, WIDTH), scalar_left(row, 1, WIDTH)
        lr = scalar_left(row, 2, WIDTH)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    m = load_state(row, at, mask, 0, STATE, ALIGNED)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    p, m = lion_update(p, g, m, keep, beta1, g_weight, beta2, m_weight, lr)
    store_param(row, at, mask, p, seed, PARAM, MASTER, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, m, seed, 0, STATE, STOCHASTIC, ALIGNED)


def lion_numbers(args: Any) -> dict[str, float]:
    """Return the floats that Lion's kernels take."""
    return {
        "keep": 1.0 - args.lr * args.weight_decay,
        "lr": args.lr,
        "beta1": args.beta1,
        "g_weight": 1.0 - args.beta1,
        "beta2": args.beta2,
        "m_weight": 1.0 - args.beta2,
    }


def lion_step(args: Any, device: torch.device) -> None:
    """Do what ``accel_lion_step`` does, on the device's current stream.

    Args:
        args: an ``accel_lion_args``.
        device: the tensors' device.
    """
    constants = {"ON_DEVICE": bool(args.lr_tensor or args.grad_scale)}
    maximize = bool(args.flags & LION_MAXIMIZE)
    launcher = Launcher(args, device, ("exp_avgs",), maximize=maximize)
    if constants["ON_DEVICE"]:
        launcher.scalars(lion_scalars_kernel, {"decay": args.weight_decay})
    launcher.step(lion_kernel, lion_numbers(args), constants)
    launcher.count()
