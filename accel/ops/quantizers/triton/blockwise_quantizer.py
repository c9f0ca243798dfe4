"""``blockwise_quantizer`` in Triton: see ``accel/blockwise_quantizer.h`` for the formats."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as Value

from accel.ops import abi
from accel.ops.optimizers.triton.elements import load, store
from accel.ops.quantizers.codes import QUANT_TYPES, dynamic_map, four_bit
from accel.ops.quantizers.reference import values_on

_TILE = 2048  # elements of a program
_PART = 1024  # the most elements of a block that are processed at once
_COMMON: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def _offsets(
    start: int, row: Value, numel: Value, BLOCK: tl.constexpr, PART: tl.constexpr
) -> tuple[Value, Value]:
    """Return the offsets of a part of each row's block, and a mask of those that exist."""
    inside = start + tl.arange(0, PART)[None, :]
    at = row[:, None] * BLOCK + inside
    return at, (inside < BLOCK) & (at < numel)


@triton.jit
def _absmax(
    a: Value, row: Value, numel: Value, BLOCK: tl.constexpr, DTYPE: tl.constexpr,
    ROWS: tl.constexpr, PART: tl.constexpr,
) -> Value:  # fmt: skip
    """Return the largest magnitude of each row's block, NaN for a block with one."""
    most = tl.zeros((ROWS,), tl.int32)
    for start in range(0, BLOCK, PART):
        at, mask = _offsets(start, row, numel, BLOCK, PART)
        bits = load(a, at, mask, DTYPE, False).to(tl.int32, bitcast=True) & 0x7FFFFFFF
        most = tl.maximum(most, tl.max(bits, axis=1))
    return tl.where(most > 0x7F800000, 0x7FC00000, most).to(tl.float32, bitcast=True)


@triton.jit
def _places(x: Value, absmax: Value, bounds: Value, HALF: tl.constexpr) -> Value:
    """Return how many of ``2 * HALF - 1`` bounds are below each scaled element."""
    shift = tl.where(absmax > 79228162514264337593543950336.0, 5.421010862427522e-20, 1.0)
    shift = tl.where(absmax < 1.262177448353619e-29, 18446744073709551616.0, shift)
    wide = absmax * shift
    inverse = tl.div_rn(tl.full(wide.shape, 1.0, tl.float32), wide)
    y = x * shift[:, None] * inverse[:, None]
    endless = (tl.abs(x) == float("inf")) & (absmax == float("inf"))[:, None]
    plain = (absmax > 0.0) & (absmax < float("inf"))
    y = tl.where(plain[:, None], y, tl.where(endless, tl.where(x > 0.0, 1.0, -1.0), 0.0))
    place = tl.zeros(x.shape, tl.int32)
    for halved in tl.static_range(8 if HALF == 128 else 4):
        bound = tl.load(bounds + place + ((HALF >> halved) - 1))
        place = tl.where(bound < y, place + (HALF >> halved), place)
    return place


@triton.jit
def encode_kernel(
    a: Value, bounds: Value, order: Value, codes: Value, absmax: Value, numel: tl.int64,
    blocks: tl.int64, BLOCK: tl.constexpr, DTYPE: tl.constexpr, HALF: tl.constexpr,
    ROWS: tl.constexpr, PART: tl.constexpr,
) -> None:  # fmt: skip
    """Encode a few blocks; if `HALF` is 8, two elements per byte."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    most = _absmax(a, row, numel, BLOCK, DTYPE, ROWS, PART)
    tl.store(absmax + row, most, mask=row < blocks)
    for start in range(0, BLOCK, PART):
        at, mask = _offsets(start, row, numel, BLOCK, PART)
        x = load(a, at, mask, DTYPE, False)
        code = tl.load(order + _places(x, most, bounds, HALF))
        if HALF == 8:
            upper, lower = tl.split(tl.reshape(code, (ROWS, PART // 2, 2)))
            # If the byte exists, so does the first of its two elements.
            first, _ = tl.split(tl.reshape(at, (ROWS, PART // 2, 2)))
            inside = start + 2 * tl.arange(0, PART // 2)[None, :]
            there = (inside < BLOCK) & (first < numel)
            tl.store(codes + first // 2, upper << 4 | lower, mask=there)
        else:
            tl.store(codes + at, code, mask=mask)


@triton.jit
def decode_kernel(
    codes: Value, values: Value, absmax: Value, out: Value, numel: tl.int64, BLOCK: tl.constexpr,
    DTYPE: tl.constexpr, FOUR: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Decode adjacent elements."""
    first = tl.program_id(0).to(tl.int64) * SIZE
    at = first + tl.arange(0, SIZE)
    if FOUR:
        byte = first // 2 + tl.arange(0, SIZE // 2)
        pair = tl.load(codes + byte, mask=byte < (numel + 1) // 2, other=0).to(tl.int32)
        code = tl.interleave(pair >> 4, pair & 15)
    else:
        code = tl.load(codes + at, mask=at < numel, other=0).to(tl.int32)
    x = tl.load(values + code) * tl.load(absmax + at // BLOCK, mask=at < numel, other=0.0)
    store(out, at, at < numel, x, 0, DTYPE, False, False)


def _encode(
    a: Tensor, rising: Tensor, order: Tensor, codes: Tensor, absmax: Tensor, blocksize: int
) -> None:
    """Launch the kernel for all blocks, with 256 rising values or 16."""
    bounds = torch.full((order.numel(),), torch.inf, dtype=torch.float32, device=a.device)
    count = rising.numel() - 1
    middles = (rising[:-1] + rising[1:]) / 2
    bounds[:count] = torch.where(middles.isnan(), torch.inf, middles)
    part = min(_PART, max(2, triton.next_power_of_2(blocksize)))
    rows = max(1, _TILE // part) if part >= blocksize else 1
    blocks = absmax.numel()
    encode_kernel[(triton.cdiv(blocks, rows),)](
        a, bounds, order, codes, absmax, a.numel(), blocks, BLOCK=blocksize,
        DTYPE=abi.ELEMENTS[a.dtype], HALF=order.numel() // 2, ROWS=rows, PART=part, **_COMMON,
    )  # fmt: skip


def _decode(
    codes: Tensor, values: Tensor, absmax: Tensor, out: Tensor, blocksize: int, *, four: bool
) -> None:
    decode_kernel[(triton.cdiv(out.numel(), _TILE),)](
        codes, values, absmax, out, out.numel(), BLOCK=blocksize, DTYPE=abi.ELEMENTS[out.dtype],
        FOUR=four, SIZE=_TILE, **_COMMON,
    )  # fmt: skip


def blockwise_encode(
    a: Tensor, code: Tensor | None, order: Tensor | None, blocksize: int, codes: Tensor,
    absmax: Tensor,
) -> None:  # fmt: skip
    """Do what ``accel_blockwise_encode`` does."""
    rising = values_on(dynamic_map(), a.device) if code is None else code
    places = torch.arange(256, dtype=torch.uint8, device=a.device) if order is None else order
    _encode(a, rising, places, codes, absmax, blocksize)


def blockwise_decode(
    coded: Tensor, absmax: Tensor, code: Tensor | None, blocksize: int, dtype: torch.dtype,
    out: Tensor,
) -> None:  # fmt: skip
    """Do what ``accel_blockwise_decode`` does."""
    values = values_on(dynamic_map(), coded.device) if code is None else code
    _decode(coded, values, absmax, out, blocksize, four=False)


def four_bit_encode(a: Tensor, blocksize: int, kind: int, packed: Tensor, absmax: Tensor) -> None:
    """Do what ``accel_four_bit_encode`` does."""
    four = four_bit(QUANT_TYPES[kind])
    rising = values_on(tuple(four.values[code] for code in four.rising), a.device)
    order = torch.zeros((16,), dtype=torch.uint8, device=a.device)
    order[: len(four.rising)] = torch.tensor(four.rising, dtype=torch.uint8, device=a.device)
    _encode(a, rising, order, packed, absmax, blocksize)


def four_bit_decode(
    packed: Tensor, absmax: Tensor, blocksize: int, kind: int, numel: int, dtype: torch.dtype,
    out: Tensor,
) -> None:  # fmt: skip
    """Do what ``accel_four_bit_decode`` does."""
    values = values_on(four_bit(QUANT_TYPES[kind]).values, packed.device)
    _decode(packed, values, absmax, out, blocksize, four=True)
