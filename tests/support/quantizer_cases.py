"""Tensors with every kind of number, ways to run quantizers, and the bits that all must give."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from accel.builders.cpu import BlockwiseQuantizerBuilder, FPQuantizerBuilder, QuantizerBuilder
from accel.ops.quantizers.blockwise_quantizer import BlockwiseQuantizer
from accel.ops.quantizers.fp_quantizer import FPQuantizer
from accel.ops.quantizers.quantizer import Quantizer

TYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCKWISE_BITS = "e1dc96be73d8450e"
"""Digest of what `blockwise_bits` encodes and decodes, on every rung and device."""

QUANTIZER_BITS = "ee09fa55a33e9387"
"""The same of `quantizer_bits`."""

FP_FORMATS = ((8, 3), (8, 2), (12, 4), (6, 2), (4, 1))
"""Bits of codes, and of their mantissas as DeepSpeed's callers give them."""

FP_BITS = "2e144879e172c31c"
"""The same of `fp_bits`."""


def rungs() -> dict[str, BlockwiseQuantizer]:
    """Return the native op and the reference."""
    return {"native": BlockwiseQuantizerBuilder().jit_load(), "reference": BlockwiseQuantizer()}


def numbers(numel: int, dtype: torch.dtype, seed: int = 1) -> Tensor:
    """Return numbers of mixed signs and sizes, without torch's generators."""
    at = torch.arange(numel, dtype=torch.int64, device="cpu") + seed * 0x9E3779B9
    bits = at * 0x7FEB352D & 0xFFFFFFFF
    bits = (bits ^ bits >> 15) * 0x846CA68B & 0xFFFFFFFF
    fraction = ((bits ^ bits >> 16) & 0xFFFFFF).float() / 2.0**23 - 1.0
    return (fraction * fraction.abs()).to(dtype)


def special(numel: int, dtype: torch.dtype) -> Tensor:
    """Return `numbers` with blocks of zeros, the smallest and the largest, infinities and NaN."""
    x = numbers(numel, dtype)
    info = torch.finfo(dtype)
    sizes = (0.0, info.tiny * info.eps * 3, info.tiny, info.max, info.max / 8)
    for at, size in enumerate(sizes, start=1):
        part = x[at * 256 : at * 256 + 200]
        part.copy_((part.double() * size).to(dtype))
    for at, value in ((1600, math.inf), (1601, -math.inf), (1900, math.nan), (2200, math.inf),
                      (2201, math.nan)):  # fmt: skip
        x[at : at + 1] = value
    return x


class Digest:
    """A digest of tensors; the payload of NaN does not count."""

    def __init__(self) -> None:
        self._found = hashlib.sha256()

    def add(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            plain = tensor
            if tensor.is_floating_point():
                plain = torch.where(tensor.isnan(), torch.nan, tensor).float().view(torch.int32)
            self._found.update(bytes(plain.reshape(-1).contiguous().view(torch.uint8).tolist()))

    def __str__(self) -> str:
        return self._found.hexdigest()[:16]


def blockwise_bits(op: Any) -> str:
    """Return a digest of the op's codes, magnitudes and elements."""
    found = Digest()
    for dtype in TYPES:
        x = special(3001, dtype)
        for blocksize in (7, 64, 256, 1500):
            for code in (None, numbers(256, torch.float32, 5)):
                codes, absmax = op.quantize_blockwise(x, code, blocksize)
                found.add(codes, absmax)
                found.add(op.dequantize_blockwise(codes, absmax, code, blocksize, dtype))
        for quant_type in ("nf4", "fp4"):
            for blocksize, compressed in ((32, False), (64, True), (2048, False)):
                packed, state = op.quantize_4bit(x, blocksize, quant_type, compressed)
                found.add(packed, state.absmax, op.dequantize_4bit(packed, state))
    return str(found)


def quantizer_rungs() -> dict[str, Quantizer]:
    """Return the native op and the reference."""
    return {"native": QuantizerBuilder().jit_load(), "reference": Quantizer()}


def quantizer_bits(op: Any) -> str:
    """Return a digest of what all of the op's functions return."""
    found, numel = Digest(), 2304
    # Ties among them: integers, and halves between them.
    steps = (torch.arange(numel, dtype=torch.int64) % 511 - 255).half() / 2
    for x in (*(special(numel, dtype) for dtype in TYPES), numbers(numel, TYPES[0], 9), steps):
        for bits in (8, 4):
            for kind in (op.Symmetric, op.Asymmetric):
                for groups in (2, 18):
                    codes, params = op.quantize(x.view(6, -1), groups, bits, kind)
                    call = (codes, params, groups, bits, kind)
                    found.add(codes, params, op.dequantize(*call), op.dequantize_fp32(*call))
                codes, params = op.swizzle_quant(x, 24, bits, kind, 2, 3, 4)
                found.add(codes, params)
                for out_groups in (4, 9):
                    found.add(*op.quantized_reduction(codes, params, 24, out_groups, bits, kind, 4))
    return str(found)


def fp_rungs() -> dict[str, FPQuantizer]:
    """Return the native op and the reference."""
    return {"native": FPQuantizerBuilder().jit_load(), "reference": FPQuantizer()}


def fp_coded(
    op: Any, x: Tensor, group_size: int, how: tuple[int, int], seed: int | None = None
) -> Tensor:
    """Return rows of bytes, rounded by chance if there is a seed."""
    bits, mantissa = how
    out = torch.full((x.numel() // group_size, group_size * bits // 8 + 4), 255, dtype=torch.uint8)
    found = op.quantize(out, x, group_size, int(seed is not None), bits, mantissa, seed=seed)
    assert found is out
    return out


def fp_decoded(
    op: Any, rows: Tensor, numel: int, dtype: torch.dtype, size: int, how: tuple[int, int]
) -> Tensor:
    """Return elements."""
    bits, mantissa = how
    val = torch.full((numel,), 7.0, dtype=dtype)
    assert op.dequantize(val, rows, size, mantissa, bits - mantissa - 1) is None
    return val


def fp_bits(op: Any) -> str:
    """Return a digest of what all of the op's functions write."""
    found, numel = Digest(), 2304
    ties = (torch.arange(numel, dtype=torch.int64) % 511 - 255).half() / 2
    indexes = torch.tensor([2, 0], dtype=torch.int32)
    # Few groups, each of which Triton's interpreter takes its time for.
    parts = ((numel, 256, None), (768, 384, 7), (32, 8, -5))
    for x in (*(special(numel, dtype) for dtype in TYPES), ties):
        for how in FP_FORMATS:
            for count, size, seed in parts:
                rows = fp_coded(op, x[:count], size, how, seed)
                found.add(rows, fp_decoded(op, rows, count, x.dtype, size, how))
            val = torch.empty(2, 8, dtype=x.dtype)
            op.selective_dequantize(val, rows, indexes, 8, how[1], how[0] - how[1] - 1)
            found.add(val)
    return str(found)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether tensors have one type and shape and the same numbers; NaN equals NaN."""
    return (
        one.dtype == other.dtype
        and torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0))
        and torch.equal(one.isnan(), other.isnan())
    )
