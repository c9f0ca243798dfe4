"""Lion with an 8-bit moment in Triton: see ``accel/lion8bit.h``."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.reference.lion8bit import LION8BIT_MAXIMIZE
from accel.ops.optimizers.triton.codes8bit import (
    blocks_of,
    load_coded,
    noise_at,
    store_coded,
)
from accel.ops.optimizers.triton.launch import Launcher
from accel.ops.optimizers.triton.lion import lion_numbers, lion_scalars_kernel, lion_update
from accel.ops.optimizers.triton.optimizer import (
    load_grad,
    load_param,
    own_elements,
    own_tensor,
    row_of,
    scalar_left,
    seed_at,
    store_param,
)


@triton.jit(do_not_specialize=["seed"])
def lion8bit_kernel(
    rows: Value, owners: Value,
    keep: tl.float32, beta1: tl.float32, g_weight: tl.float32,
    beta2: tl.float32, m_weight: tl.float32, lr: tl.float32, seed: tl.int64,
    grad_factor: tl.float32, ON_DEVICE: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step `SIZE` elements, whole blocks, of one tensor of the table."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    seed = seed_at(row, seed, 1)
    if ON_DEVICE:
        grad_factor, keep = scalar_left(row, 0, WIDTH), scalar_left(row, 1, WIDTH)
        lr = scalar_left(row, 2, WIDTH)
    blocks, inside = blocks_of(at, mask, SIZE)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    m = load_coded(row, at, mask, blocks, inside, 0, 1, True, SIZE)
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    p, m = lion_update(p, g, m, keep, beta1, g_weight, beta2, m_weight, lr)
    store_coded(row, at, mask, blocks, inside, m, noise_at(row, seed, at), 0, 1, True, SIZE)
    store_param(row, at, mask, p, seed, PARAM, MASTER, STOCHASTIC, ALIGNED)


def lion8bit_step(args: Any, device: torch.device) -> None:
    """Do what ``accel_lion8bit_step`` does, on the device's current stream.

    Args:
        args: an ``accel_lion8bit_args``.
        device: the tensors' device.
    """
    constants = {"ON_DEVICE": bool(args.steps or args.lr_tensor or args.grad_scale)}
    maximize = bool(args.flags & LION8BIT_MAXIMIZE)
    launcher = Launcher(args, device, ("exp_avgs",), ("exp_avg_scales",), maximize=maximize)
    if constants["ON_DEVICE"]:
        launcher.scalars(lion_scalars_kernel, {"decay": args.weight_decay})
    launcher.step(lion8bit_kernel, lion_numbers(args), constants)
    launcher.count()
