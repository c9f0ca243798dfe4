"""``fp_quantizer`` in Triton, a group to a program: ``accel/fp_quantizer.h`` has the format."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as Value

from accel.ops import abi
from accel.ops.optimizers.triton.elements import load, random_bits, store
from accel.ops.quantizers.floats_reference import FloatFormat

_PART = 1024  # elements of a group that are looked at in one go, at most
_COMMON: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def _codes(
    x: Value, lift: Value, factor: Value, good: Value, seed: Value, at: Value, BITS: tl.constexpr,
    MANTISSA: tl.constexpr, BIAS: tl.constexpr, MOST: tl.constexpr, LEAST: tl.constexpr,
    ROUNDER: tl.constexpr, STOCHASTIC: tl.constexpr,
) -> Value:  # fmt: skip
    """Return the codes of elements whose numbers are `at`."""
    SHIFT: tl.constexpr = 23 - MANTISSA
    BELOW: tl.constexpr = (127 - BIAS) << MANTISSA
    y = tl.abs(x) * lift * factor
    y = tl.where(y < MOST, y, tl.where(y <= float("inf"), MOST, 0.0))
    if STOCHASTIC:
        u = tl.where(y < LEAST, y + LEAST, y).to(tl.int32, bitcast=True)
        noise = random_bits(seed, 0, 0, at).to(tl.int32, bitcast=True) & ((1 << SHIFT) - 1)
        code = ((u + noise) >> SHIFT) - tl.where(y < LEAST, BELOW + (1 << MANTISSA), BELOW)
    else:
        u = y.to(tl.int32, bitcast=True)
        zero = tl.full((1,), ROUNDER, tl.float32)
        small = (y + zero).to(tl.int32, bitcast=True) - zero.to(tl.int32, bitcast=True)
        normal = ((u + ((1 << (SHIFT - 1)) - 1) + ((u >> SHIFT) & 1)) >> SHIFT) - BELOW
        code = tl.where(y < LEAST, small, normal)
    negative = (x.to(tl.int32, bitcast=True) < 0) & good
    return code | tl.where(negative, 1 << (BITS - 1), 0)


@triton.jit
def _store_codes(
    rows: Value, start: int, count: Value, code: Value, BITS: tl.constexpr, PART: tl.constexpr
) -> None:
    """Write the codes of a part of a group; `rows` is where the group's begin."""
    if BITS == 8:
        at = start + tl.arange(0, PART)
        tl.store(rows + at, code.to(tl.uint8), mask=at < count)
    elif BITS == 4:
        low, high = tl.split(tl.reshape(code, (PART // 2, 2)))
        at = start // 2 + tl.arange(0, PART // 2)
        tl.store(rows + at, (low | (high << 4)).to(tl.uint8), mask=at < count // 2)
    else:
        low, high = tl.split(tl.reshape(code, (PART // 2, 2)))
        both = low | (high << BITS)
        at = start // 2 + tl.arange(0, PART // 2)
        inside = at < count // 2
        if BITS == 6:
            low, high = tl.split(tl.reshape(both, (PART // 4, 2)))
            both = low | (high << 12)
            at = start // 4 + tl.arange(0, PART // 4)
            inside = at < count // 4
        for byte in tl.static_range(3):
            tl.store(rows + 3 * at + byte, (both >> (8 * byte)).to(tl.uint8), mask=inside)


@triton.jit(do_not_specialize=["seed", "count"])
def quantize_kernel(
    val: Value, out: Value, seed: tl.int64, count: tl.int64, DTYPE: tl.constexpr,
    BITS: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, MOST: tl.constexpr,
    LEAST: tl.constexpr, ROUNDER: tl.constexpr, STOCHASTIC: tl.constexpr, PART: tl.constexpr,
) -> None:  # fmt: skip
    """Encode one group of `count` elements."""
    group = tl.program_id(0).to(tl.int64)
    largest = tl.zeros((PART,), tl.int32)
    for start in range(0, count, PART):
        at = start + tl.arange(0, PART)
        x = load(val, group * count + at, at < count, DTYPE, False)
        magnitude = x.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        largest = tl.where((at < count) & (magnitude > largest), magnitude, largest)
    key = tl.max(largest, axis=0, keep_dims=True)
    magnitude = key.to(tl.float32, bitcast=True)
    good = key < 0x7F800000
    lift = tl.where(magnitude < 2.0**-100, 2.0**64, 1.0)
    lift = tl.where(good, lift, 0.0)
    most = tl.full((1,), MOST, tl.float32)
    # Nothing is divided by zero, which the interpreter would warn of.
    under = tl.where(good & (key > 0), magnitude * lift, 1.0)
    factor = tl.where(good & (key > 0), tl.div_rn(most, under), 0.0)
    scale = tl.where(good, tl.div_rn(tl.where(good, magnitude, 0.0), most), 0.0)
    bits = tl.where(good, scale.to(tl.int32, bitcast=True), 0x7FC00000)
    row = out + group * (count * BITS // 8 + 4)
    one = tl.arange(0, 1)
    for byte in tl.static_range(4):
        tl.store(row + count * BITS // 8 + byte + one, (bits >> (8 * byte)).to(tl.uint8))
    for start in range(0, count, PART):
        at = start + tl.arange(0, PART)
        x = load(val, group * count + at, at < count, DTYPE, False)
        code = _codes(x, lift, factor, good, seed, group * count + at, BITS, MANTISSA, BIAS, MOST,
                      LEAST, ROUNDER, STOCHASTIC)  # fmt: skip
        _store_codes(row, start, count, code, BITS, PART)


@triton.jit(do_not_specialize=["count"])
def dequantize_kernel(
    val: Value, coded: Value, indexes: Value, numel: tl.int64, count: tl.int64, each: tl.int64,
    known: tl.int64, DTYPE: tl.constexpr, BITS: tl.constexpr, MANTISSA: tl.constexpr,
    BIAS: tl.constexpr, QUANTUM: tl.constexpr, SELECTED: tl.constexpr, PART: tl.constexpr,
) -> None:  # fmt: skip
    """Decode adjacent elements, of all rows or of those of the indexes."""
    at = tl.program_id(0).to(tl.int64) * PART + tl.arange(0, PART)
    inside = at < numel
    group = at // count
    if SELECTED:
        chosen = tl.load(indexes + group // each, inside, other=0).to(tl.int64)
        group = chosen * each + group % each
    there = inside & (group >= 0) & (group < known)
    row = coded + tl.where(there, group, 0) * (count * BITS // 8 + 4)
    # A code of fewer bits than 8 or of 12 may extend over two bytes.
    bit = (at % count) * BITS
    code = tl.load(row + bit // 8, there, other=0).to(tl.int32)
    if BITS % 4 != 0 or BITS == 12:
        code |= tl.load(row + bit // 8 + 1, there, other=0).to(tl.int32) << 8
    code = (code >> (bit % 8).to(tl.int32)) & ((1 << BITS) - 1)
    scale = tl.zeros((PART,), tl.int32)
    for byte in tl.static_range(4):
        part = tl.load(row + count * BITS // 8 + byte, there, other=0).to(tl.int32)
        scale |= part << (8 * byte)
    scale = tl.where(there, scale, 0x7FC00000)
    magnitude = code & ((1 << (BITS - 1)) - 1)
    above = (magnitude + ((127 - BIAS) << MANTISSA)) << (23 - MANTISSA)
    small = magnitude.to(tl.float32) * QUANTUM
    x = tl.where(magnitude < (1 << MANTISSA), small, above.to(tl.float32, bitcast=True))
    sign = (code >> (BITS - 1)) << 31
    x = (x.to(tl.int32, bitcast=True) | sign).to(tl.float32, bitcast=True)
    x = x * scale.to(tl.float32, bitcast=True)
    store(val, at, inside, x, 0, DTYPE, False, False)


def fp_quantize(
    val: Tensor, out: Tensor, group_size: int, bits: int, mantissa: int, stochastic: bool, seed: int
) -> None:
    """Do what ``accel_fp_quantize`` does."""
    how = FloatFormat(bits, mantissa)
    quantize_kernel[(val.numel() // group_size,)](
        val, out, seed, group_size, DTYPE=abi.ELEMENTS[val.dtype], BITS=bits, MANTISSA=mantissa,
        BIAS=how.bias, MOST=how.most, LEAST=how.least, ROUNDER=2.0 ** (24 - how.bias - mantissa),
        STOCHASTIC=stochastic, PART=int(min(_PART, max(16, triton.next_power_of_2(group_size)))),
        **_COMMON,
    )  # fmt: skip


def fp_dequantize(val: Tensor, coded: Tensor, group_size: int, bits: int, mantissa: int) -> None:
    """Do what ``accel_fp_dequantize`` does."""
    _decode(val, coded, None, group_size, FloatFormat(bits, mantissa))


def fp_selective_dequantize(
    val: Tensor, coded: Tensor, indexes: Tensor, group_size: int, bits: int, mantissa: int
) -> None:
    """Do what ``accel_fp_selective_dequantize`` does; on the host, too, wrong parts are NaN."""
    _decode(val, coded, indexes, group_size, FloatFormat(bits, mantissa))


def _decode(
    val: Tensor, coded: Tensor, indexes: Tensor | None, group_size: int, how: FloatFormat
) -> None:
    groups, known = val.numel() // group_size, coded.numel() // how.row(group_size)
    each = groups if indexes is None else groups // indexes.numel()
    dequantize_kernel[(triton.cdiv(val.numel(), _PART),)](
        val, coded, coded if indexes is None else indexes, val.numel(), group_size, each,
        known // each * each, DTYPE=abi.ELEMENTS[val.dtype], BITS=how.bits, MANTISSA=how.mantissa,
        BIAS=how.bias, QUANTUM=2.0 ** (1 - how.bias - how.mantissa), SELECTED=indexes is not None,
        PART=_PART, **_COMMON,
    )  # fmt: skip
