"""8-bit codes of moments in Triton: see ``accel/adam8bit.h``."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.codes8bit import ADAM8BIT_BLOCK, LARGEST, LATTICE
from accel.ops.optimizers.triton.elements import random_bits
from accel.ops.optimizers.triton.optimizer import number_of, state_at

CODES = tl.constexpr(ADAM8BIT_BLOCK)
_LATTICE = tl.constexpr(LATTICE)
_LARGEST_SIGNED = tl.constexpr(LARGEST[True])
_LARGEST_UNSIGNED = tl.constexpr(LARGEST[False])


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
    magnitude = tl.minimum(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, _LARGEST_SIGNED)
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
    most = tl.max(tl.reshape(bits, (SIZE // CODES, CODES)), axis=1)
    # At least 2^-95, so that no code's value is below the smallest normal number.
    finite = tl.minimum(tl.maximum((most + 0x7FFFFF) & 0x7F800000, 32 << 23), MOST)
    rounded = tl.where(most == 0, 0, tl.where(most > (255 << 23), 0x7FC00000, finite))
    return rounded.to(tl.float32, bitcast=True)


@triton.jit
def _spread(scales: Value, SIZE: tl.constexpr) -> Value:
    """Return each element's block's value."""
    wide = tl.broadcast_to(tl.expand_dims(scales, 1), (SIZE // CODES, CODES))
    return tl.reshape(wide, (SIZE,))


@triton.jit
def blocks_of(at: Value, mask: Value, SIZE: tl.constexpr) -> tuple[Value, Value]:
    """Return the numbers of the blocks of whole ones at `at`, and which begin inside the tensor."""
    blocks = tl.min(at, axis=0) // CODES + tl.arange(0, SIZE // CODES)
    last = tl.max(tl.where(mask, at, -1), axis=0)
    return blocks, blocks * CODES <= last


@triton.jit
def load_coded(
    row: Value, at: Value, mask: Value, blocks: Value, inside: Value,
    STATE: tl.constexpr, SCALES: tl.constexpr, SIGNED: tl.constexpr, SIZE: tl.constexpr,
) -> Value:  # fmt: skip
    """Return a state's values; `STATE` and `SCALES` are the numbers of codes and of scales."""
    codes_at = state_at(row, STATE).to(tl.pointer_type(tl.uint8)) + at
    scales_at = state_at(row, SCALES).to(tl.pointer_type(tl.float32)) + blocks
    scale = _spread(tl.load(scales_at, inside, other=0.0), SIZE)
    return _decode(tl.load(codes_at, mask, other=0), scale, SIGNED)


@triton.jit
def noise_at(row: Value, seed: Value, at: Value) -> Value:
    """Return the noise of every element."""
    rotation = random_bits(seed, number_of(row), 1, at // CODES)
    return rotation + (at % CODES).to(tl.uint32) * _LATTICE


@triton.jit
def store_coded(
    row: Value, at: Value, mask: Value, blocks: Value, inside: Value, values: Value, noise: Value,
    STATE: tl.constexpr, SCALES: tl.constexpr, SIGNED: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Store a state's values as codes, and their scales; the opposite of `load_coded`."""
    # Elements beyond the tensor's end must not affect the block's scales.
    values = tl.where(mask, values, 0.0)
    codes_at = state_at(row, STATE).to(tl.pointer_type(tl.uint8)) + at
    scales_at = state_at(row, SCALES).to(tl.pointer_type(tl.float32)) + blocks
    scales = _scales(values, _LARGEST_SIGNED if SIGNED else _LARGEST_UNSIGNED, SIZE)
    tl.store(scales_at, scales, inside)
    scale = _spread(scales, SIZE)
    if SIGNED:
        codes = _encode_signed(values, scale, noise)
    else:
        codes = _encode_unsigned(values, scale, noise)
    tl.store(codes_at, codes, mask)
