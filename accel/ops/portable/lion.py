"""Lion in Triton: see ``accel/lion.h`` for the arithmetic."""

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
    store_param,
    store_state,
)


@triton.jit
def lion_kernel(
    rows: Value, owners: Value,
    keep: tl.float32, decay: tl.float32, beta1: tl.float32, g_weight: tl.float32,
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
        rate = rate_at(rows, lr)
        grad_factor = factor_at(rows, grad_factor)
        keep = (1.0 - rate * decay).to(tl.float32)
        lr = rate.to(tl.float32)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    m = load_state(row, at, mask, 0, STATE, ALIGNED)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    c = m * beta1 + g * g_weight
    # What is neither above nor below 0 stays: 0, and NaN.
    direction = tl.where(c > 0.0, 1.0, tl.where(c < 0.0, -1.0, c))
    m = m * beta2 + g * m_weight
    p = p * keep - direction * lr
    store_param(row, at, mask, p, seed, PARAM, MASTER, STOCHASTIC, ALIGNED)
    store_state(row, at, mask, m, seed, 0, STATE, STOCHASTIC, ALIGNED)


def lion_step(args: Any, device: torch.device) -> None:
    """Do what ``accel_lion_step`` does, on the device's current stream.

    Args:
        args: an `accel.ops.abi.LionArgs`.
        device: where the tensors are.
    """
    numbers = {
        "keep": 1.0 - args.lr * args.weight_decay,
        "decay": args.weight_decay,
        "beta1": args.beta1,
        "g_weight": 1.0 - args.beta1,
        "beta2": args.beta2,
        "m_weight": 1.0 - args.beta2,
    }
    constants = {"ON_DEVICE": bool(args.lr_tensor or args.grad_scale)}
    launcher = Launcher(args, device, ("exp_avgs",))
    maximize = bool(args.flags & abi.LION_MAXIMIZE)
    launcher.step(lion_kernel, numbers, constants, maximize=maximize)
    launcher.count()
