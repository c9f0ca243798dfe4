"""``quantizer`` in Triton: see ``accel/quantizer.h`` for the format. A program has one group."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as Value

from accel.ops import abi
from accel.ops.optimizers.triton.elements import load, store

_PART = 1024  # the most elements of a group that are processed at once
_ROUNDER = tl.constexpr(12582912.0)  # 1.5 * 2^23: rounds to nearest
# No kernel has an argument `params`, which Triton's launch hides by a variable of its own.
_COMMON: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def _key(x: Value) -> Value:
    """Return integers in the order of the floats, with NaN beyond the infinities."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _float(key: Value) -> Value:
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _ends(x: Value, mask: Value, least: Value, most: Value) -> tuple[Value, Value]:
    """Return the smaller and the larger keys, element by element."""
    key = _key(x)
    least = tl.where(mask & (key < least), key, least)
    return least, tl.where(mask & (key > most), key, most)


@triton.jit
def _grid(least: Value, most: Value, BITS: tl.constexpr, ASYM: tl.constexpr) -> tuple[Value, Value]:
    """Return scale and offset of a group, each of shape (1,)."""
    small = _float(tl.min(least, axis=0, keep_dims=True))
    large = _float(tl.max(most, axis=0, keep_dims=True))
    offset = tl.zeros((1,), tl.float32)
    if ASYM:
        half = large / 2.0 - small / 2.0
        offset = large / 2.0 + small / 2.0 + 0.0
    else:
        numbers = (tl.abs(small) <= float("inf")) & (tl.abs(large) <= float("inf"))
        half = tl.where(numbers, tl.where(-small > large, -small, large), float("nan"))
    limit = tl.full((1,), 128.0 if BITS == 8 else 8.0, tl.float32)
    return tl.where(half == 0.0, 1.0, tl.div_rn(limit, half)), offset


@triton.jit
def _code(x: Value, scale: Value, offset: Value, BITS: tl.constexpr) -> Value:
    limit = 128.0 if BITS == 8 else 8.0
    y = (x - offset) * scale
    inside = tl.where(y > -limit, y, -limit)
    inside = tl.where(inside < limit - 1.0, inside, limit - 1.0)
    whole = tl.where(tl.abs(y) <= float("inf"), inside, 0.0) + _ROUNDER
    return whole.to(tl.int32, bitcast=True) - 0x4B400000


@triton.jit
def _store_codes(
    codes: Value, first: Value, start: int, count: Value, code: Value, BITS: tl.constexpr,
    PART: tl.constexpr,
) -> None:  # fmt: skip
    """Write a part of a group that begins at element `first` of the tensor."""
    if BITS == 4:
        low, high = tl.split(tl.reshape(code, (PART // 2, 2)))
        byte = start // 2 + tl.arange(0, PART // 2)
        both = ((low & 15) | (high << 4)).to(tl.int8)
        tl.store(codes + first // 2 + byte, both, mask=byte < count // 2)
    else:
        at = start + tl.arange(0, PART)
        tl.store(codes + first + at, code.to(tl.int8), mask=at < count)


@triton.jit
def _store_scales(
    scales: Value, group: Value, scale: Value, offset: Value, ASYM: tl.constexpr
) -> None:
    one = tl.arange(0, 1)
    step = tl.div_rn(tl.full((1,), 1.0, tl.float32), scale)
    if ASYM:
        tl.store(scales + group * 2 + one, step)
        tl.store(scales + group * 2 + 1 + one, offset)
    else:
        tl.store(scales + group + one, step)


@triton.jit(do_not_specialize=["count"])
def quantize_kernel(
    vals: Value, codes: Value, scales: Value, count: tl.int64, pipeline: tl.int64, nodes: tl.int64,
    devices: tl.int64, contiguous: tl.int64, DTYPE: tl.constexpr, BITS: tl.constexpr,
    ASYM: tl.constexpr, PART: tl.constexpr,
) -> None:  # fmt: skip
    """Encode one group of `count` elements."""
    group = tl.program_id(0).to(tl.int64)
    least = tl.full((PART,), 0x7FFFFFFF, tl.int32)
    most = tl.full((PART,), -0x80000000, tl.int32)
    for start in range(0, count, PART):
        at = start + tl.arange(0, PART)
        x = load(vals, group * count + at, at < count, DTYPE, False)
        least, most = _ends(x, at < count, least, most)
    scale, offset = _grid(least, most, BITS, ASYM)
    piece = group // contiguous % pipeline
    partition = group // (contiguous * pipeline)
    to = piece * nodes * devices + partition % devices * nodes + partition // devices
    to = to * contiguous + group % contiguous
    _store_scales(scales, to, scale, offset, ASYM)
    for start in range(0, count, PART):
        at = start + tl.arange(0, PART)
        x = load(vals, group * count + at, at < count, DTYPE, False)
        code = _code(x, scale, offset, BITS)
        _store_codes(codes, to * count, start, count, code, BITS, PART)


@triton.jit
def _elements(
    codes: Value, scales: Value, at: Value, mask: Value, count: Value, first_group: Value,
    BITS: tl.constexpr, ASYM: tl.constexpr,
) -> Value:  # fmt: skip
    """Return elements of a tensor whose groups have `count` elements, by their indices."""
    if BITS == 4:
        both = tl.load(codes + at // 2, mask, other=0).to(tl.int32)
        nibble = tl.where(at % 2 == 0, both, both >> 4) & 15
        code = nibble - ((nibble & 8) << 1)
    else:
        code = tl.load(codes + at, mask, other=0).to(tl.int32)
    group = first_group + at // count
    if ASYM:
        step = tl.load(scales + group * 2, mask, other=0.0)
        return code.to(tl.float32) * step + tl.load(scales + group * 2 + 1, mask, other=0.0)
    else:
        return code.to(tl.float32) * tl.load(scales + group, mask, other=0.0) + 0.0


@triton.jit(do_not_specialize=["count"])
def dequantize_kernel(
    codes: Value, scales: Value, out: Value, numel: tl.int64, count: tl.int64, DTYPE: tl.constexpr,
    BITS: tl.constexpr, ASYM: tl.constexpr, PART: tl.constexpr,
) -> None:  # fmt: skip
    """Decode adjacent elements."""
    at = tl.program_id(0).to(tl.int64) * PART + tl.arange(0, PART)
    x = _elements(codes, scales, at, at < numel, count, at * 0, BITS, ASYM)
    store(out, at, at < numel, x, 0, DTYPE, False, False)


@triton.jit
def _sums(
    codes: Value, scales: Value, at: Value, mask: Value, count: Value, tensor: Value,
    groups: Value, devices: Value, BITS: tl.constexpr, ASYM: tl.constexpr, PART: tl.constexpr,
) -> Value:  # fmt: skip
    """Return sums over tensors of `tensor` elements, each step rounded to float16."""
    total = tl.zeros((PART,), tl.float32)
    for one in range(0, devices):
        here = codes + one * tensor // (2 if BITS == 4 else 1)
        x = _elements(here, scales, at, mask, count, at * 0 + one * groups, BITS, ASYM)
        total = (total + x.to(tl.float16).to(tl.float32)).to(tl.float16).to(tl.float32)
    return total


@triton.jit(do_not_specialize=["count"])
def reduce_kernel(
    codes: Value, scales: Value, reduced: Value, new_scales: Value, count: tl.int64,
    in_count: tl.int64, tensor: tl.int64, groups: tl.int64, devices: tl.int64, BITS: tl.constexpr,
    ASYM: tl.constexpr, PART: tl.constexpr,
) -> None:  # fmt: skip
    """Add up and encode one new group of `count` elements."""
    group = tl.program_id(0).to(tl.int64)
    least = tl.full((PART,), 0x7FFFFFFF, tl.int32)
    most = tl.full((PART,), -0x80000000, tl.int32)
    for start in range(0, count, PART):
        at = start + tl.arange(0, PART)
        x = _sums(codes, scales, group * count + at, at < count, in_count, tensor, groups, devices,
                  BITS, ASYM, PART)  # fmt: skip
        least, most = _ends(x, at < count, least, most)
    scale, offset = _grid(least, most, BITS, ASYM)
    _store_scales(new_scales, group, scale, offset, ASYM)
    for start in range(0, count, PART):
        at = start + tl.arange(0, PART)
        x = _sums(codes, scales, group * count + at, at < count, in_count, tensor, groups, devices,
                  BITS, ASYM, PART)  # fmt: skip
        code = _code(x, scale, offset, BITS)
        _store_codes(reduced, group * count, start, count, code, BITS, PART)


def _part(count: int) -> int:
    return int(min(_PART, max(16, triton.next_power_of_2(count))))


def group_quantize(
    vals: Tensor, groups: int, bits: int, asymmetric: bool, pipeline: int, nodes: int,
    devices: int, quantized: Tensor, params: Tensor,
) -> None:  # fmt: skip
    """Do what ``accel_group_quantize`` does."""
    count, contiguous = vals.numel() // groups, groups // (pipeline * nodes * devices)
    quantize_kernel[(groups,)](
        vals, quantized, params, count, pipeline, nodes, devices, contiguous,
        DTYPE=abi.ELEMENTS[vals.dtype], BITS=bits, ASYM=asymmetric, PART=_part(count), **_COMMON,
    )  # fmt: skip


def group_dequantize(
    quantized: Tensor, params: Tensor, groups: int, bits: int, asymmetric: bool,
    dtype: torch.dtype, out: Tensor,
) -> None:  # fmt: skip
    """Do what ``accel_group_dequantize`` does."""
    dequantize_kernel[(triton.cdiv(out.numel(), _PART),)](
        quantized, params, out, out.numel(), out.numel() // groups, DTYPE=abi.ELEMENTS[dtype],
        BITS=bits, ASYM=asymmetric, PART=_PART, **_COMMON,
    )  # fmt: skip


def group_reduce(
    quantized: Tensor, params: Tensor, in_groups: int, out_groups: int, bits: int,
    asymmetric: bool, devices: int, reduced: Tensor, new_params: Tensor,
) -> None:  # fmt: skip
    """Do what ``accel_group_reduce`` does."""
    tensor, groups = quantized.numel() * 8 // bits // devices, in_groups // devices
    count = tensor // out_groups
    reduce_kernel[(out_groups,)](
        quantized, params, reduced, new_params, count, tensor // groups, tensor, groups, devices,
        BITS=bits, ASYM=asymmetric, PART=_part(count), **_COMMON,
    )  # fmt: skip
