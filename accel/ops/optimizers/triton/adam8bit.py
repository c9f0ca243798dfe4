"""Adam with 8-bit moments in Triton: see ``accel/adam8bit.h`` for codes and arithmetic."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.reference.adam8bit import (
    ADAM8BIT_ADAMW,
    ADAM8BIT_BIAS_CORRECTION,
    ADAM8BIT_MAXIMIZE,
)
from accel.ops.optimizers.triton.adam import (
    adam_numbers,
    adam_scalars_kernel,
    adam_update,
    scalars_on_device,
)
from accel.ops.optimizers.triton.codes8bit import (
    blocks_of,
    load_coded,
    noise_at,
    store_coded,
)
from accel.ops.optimizers.triton.launch import Launcher
from accel.ops.optimizers.triton.optimizer import (
    load_grad,
    load_param,
    own_elements,
    own_tensor,
    row_of,
    seed_at,
    store_param,
)


@triton.jit(do_not_specialize=["seed"])
def adam8bit_kernel(
    rows: Value, owners: Value,
    l2: tl.float32, keep: tl.float32, m_weight: tl.float32, v_weight: tl.float32,
    beta1: tl.float32, beta2: tl.float32, eps: tl.float32, step_size: tl.float32,
    seed: tl.int64, grad_factor: tl.float32,
    L2: tl.constexpr, FROM_GRAD: tl.constexpr, ON_DEVICE: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, STATE: tl.constexpr, MASTER: tl.constexpr,
    STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Step `SIZE` elements, whole blocks, of one tensor of the table."""
    row = row_of(rows, own_tensor(owners), WIDTH)
    at, mask = own_elements(rows, row, SIZE, ALIGNED)
    seed = seed_at(row, seed, 1)
    if ON_DEVICE:
        grad_factor, keep, step_size, eps = scalars_on_device(row, WIDTH)
    blocks, inside = blocks_of(at, mask, SIZE)
    m = load_coded(row, at, mask, blocks, inside, 0, 2, True, SIZE)
    v = load_coded(row, at, mask, blocks, inside, 1, 3, False, SIZE)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    if L2:
        g = g + l2 * p
    p, m, v, _ = adam_update(
        p, g, m, v, v, m_weight, v_weight, beta2, eps, keep, step_size, FROM_GRAD, False
    )
    noise = noise_at(row, seed, at)
    store_coded(row, at, mask, blocks, inside, m, noise, 0, 2, True, SIZE)
    store_coded(row, at, mask, blocks, inside, v, noise, 1, 3, False, SIZE)
    store_param(row, at, mask, p, seed, PARAM, MASTER, STOCHASTIC, ALIGNED)


def adam8bit_step(args: Any, device: torch.device) -> None:
    """Do what ``accel_adam8bit_step`` does, on the device's current stream.

    Args:
        args: an ``accel_adam8bit_args``.
        device: the tensors' device.
    """
    flags = args.flags
    decoupled = bool(flags & ADAM8BIT_ADAMW)
    constants = {
        "L2": not decoupled and args.weight_decay != 0.0,
        "FROM_GRAD": 1.0 - args.beta1 >= 0.5,
        "ON_DEVICE": bool(args.steps or args.lr_tensor or args.grad_scale),
    }
    launcher = Launcher(
        args, device, ("exp_avgs", "exp_avg_sqs"), ("exp_avg_scales", "exp_avg_sq_scales"),
        maximize=bool(flags & ADAM8BIT_MAXIMIZE),
    )  # fmt: skip
    numbers, scalars = adam_numbers(args, decoupled, bool(flags & ADAM8BIT_BIAS_CORRECTION))
    if constants["ON_DEVICE"]:
        launcher.scalars(adam_scalars_kernel, scalars, AHEAD=1)
    launcher.step(adam8bit_kernel, numbers, constants)
    launcher.count()
