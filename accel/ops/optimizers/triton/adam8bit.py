"""Adam with 8-bit moments in Triton: see ``accel/adam8bit.h`` for codes and arithmetic."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.codes8bit import ADAM8BIT_BLOCK, LARGEST, LATTICE
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
from accel.ops.optimizers.triton.elements import random_bits
from accel.ops.optimizers.triton.launch import Launcher
from accel.ops.optimizers.triton.optimizer import (
    load_grad,
    load_param,
    number_of,
    own_elements,
    own_tensor,
    row_of,
    seed_at,
    state_at,
    store_param,
)

_BLOCK = tl.constexpr(ADAM8BIT_BLOCK)
_LATTICE = tl.constexpr(LATTICE)
_LARGEST_M = tl.constexpr(LARGEST[True])
_LARGEST_V = tl.constexpr(LARGEST[False])


@triton.jit
def _unit(scale: Value, SIGNED: tl.constexpr) -> Value:
    """Return the offset of the magnitudes of signed codes, and the smallest unsigned value."""
    return scale * (1.0 / 32768.0 if SIGNED else 1.0 / 2147483648.0)


@triton.jit
def _decode(codes: Value, scale: Value, SIGNED: tl.constexpr) -> Value:
    unit = _unit(scale, SIGNED)
    wide = codes.to(tl.uint32)
    bits = ((wide & 0x7F if SIGNED else wide) << 20) + unit.to(tl.uint32, bitcast=True)
    values = bits.to(tl.float32, bitcast=True)
    if SIGNED:
        values = tl.where(wide > 0x7F, unit - values, values - unit)
    return tl.where(scale > 0.0, values, scale)


@triton.jit
def _encode_signed(x: Value, scale: Value, noise: Value) -> Value:
    unit = _unit(scale, True)
    magnitude = tl.minimum(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, _LARGEST_M)
    moved = (magnitude.to(tl.float32, bitcast=True) + unit).to(tl.uint32, bitcast=True)
    code = (moved + (noise & 0xFFFFF) - unit.to(tl.uint32, bitcast=True)) >> 20
    code = (code & 0x7F) | ((x.to(tl.uint32, bitcast=True) >> 24) & 0x80)
    return tl.where(scale > 0.0, code, 0).to(tl.uint8)


@triton.jit
def _encode_unsigned(x: Value, scale: Value, noise: Value) -> Value:
    unit = _unit(scale, False)
    held = tl.where(x < unit, unit, x).to(tl.uint32, bitcast=True)
    code = (held + (noise >> 12) - unit.to(tl.uint32, bitcast=True)) >> 20
    return tl.where(scale > 0.0, code, 0).to(tl.uint8)


@triton.jit
def _scales(x: Value, MOST: tl.constexpr, SIZE: tl.constexpr) -> Value:
    """Return each block's scale, at most `MOST`; compared as bits, so that NaN is the largest."""
    bits = x.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    most = tl.max(tl.reshape(bits, (SIZE // _BLOCK, _BLOCK)), axis=1)
    # At least 2^-95, so that no code's value is below the smallest normal number.
    finite = tl.minimum(tl.maximum((most + 0x7FFFFF) & 0x7F800000, 32 << 23), MOST)
    rounded = tl.where(most == 0, 0, tl.where(most > (255 << 23), 0x7FC00000, finite))
    return rounded.to(tl.float32, bitcast=True)


@triton.jit
def _spread(scales: Value, SIZE: tl.constexpr) -> Value:
    """Return each element's block's value."""
    wide = tl.broadcast_to(tl.expand_dims(scales, 1), (SIZE // _BLOCK, _BLOCK))
    return tl.reshape(wide, (SIZE,))


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
    first = tl.min(at, axis=0) // _BLOCK
    blocks = first + tl.arange(0, SIZE // _BLOCK)
    last = tl.max(tl.where(mask, at, -1), axis=0)
    inside = blocks * _BLOCK <= last
    m_at = state_at(row, 0).to(tl.pointer_type(tl.uint8)) + at
    v_at = state_at(row, 1).to(tl.pointer_type(tl.uint8)) + at
    m_scale_at = state_at(row, 2).to(tl.pointer_type(tl.float32)) + blocks
    v_scale_at = state_at(row, 3).to(tl.pointer_type(tl.float32)) + blocks
    m_scale = _spread(tl.load(m_scale_at, inside, other=0.0), SIZE)
    v_scale = _spread(tl.load(v_scale_at, inside, other=0.0), SIZE)
    m = _decode(tl.load(m_at, mask, other=0), m_scale, True)
    v = _decode(tl.load(v_at, mask, other=0), v_scale, False)
    g = load_grad(row, at, mask, GRAD, ALIGNED) * grad_factor
    p = load_param(row, at, mask, PARAM, MASTER, ALIGNED)
    if L2:
        g = g + l2 * p
    p, m, v, _ = adam_update(
        p, g, m, v, v, m_weight, v_weight, beta2, eps, keep, step_size, FROM_GRAD, False
    )
    # Elements beyond the tensor's end must not affect the block's scales.
    m, v = tl.where(mask, m, 0.0), tl.where(mask, v, 0.0)
    new_m, new_v = _scales(m, _LARGEST_M, SIZE), _scales(v, _LARGEST_V, SIZE)
    noise = random_bits(seed, number_of(row), 1, at // _BLOCK)
    noise += (at % _BLOCK).to(tl.uint32) * _LATTICE
    tl.store(m_scale_at, new_m, inside)
    tl.store(v_scale_at, new_v, inside)
    tl.store(m_at, _encode_signed(m, _spread(new_m, SIZE), noise), mask)
    tl.store(v_at, _encode_unsigned(v, _spread(new_v, SIZE), noise), mask)
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
