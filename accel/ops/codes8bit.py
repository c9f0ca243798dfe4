"""Block-wise 8-bit codes of optimizer states, as ``accel/adam8bit.h`` defines them.

Blocks of 256 elements in memory order share a scale, the smallest power of two that no magnitude
in the block exceeds. Signed codes are a sign and 7 bits, from 1.125 * 2^-15 of the scale to the
scale; unsigned codes are 8 bits, from 1.125 * 2^-31. Within that range neighbours are 1/8 of a
power of two apart: an error below 1/8 of the value when stochastic, at most 1/16 when nearest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accel.ops import abi

_BLOCK = abi.ADAM8BIT_BLOCK
_BIAS = {True: 112 << 23, False: 96 << 23}
_SMALLEST = {True: 1.125 * 2.0**-15, False: 1.125 * 2.0**-31}
_MASK = 0xFFFFFFFF


def blocks(numel: int) -> int:
    """Return the number of blocks, and so of scales, of a tensor."""
    return -(-numel // _BLOCK)


def memory_order(tensor: Tensor) -> Tensor:
    """Return a dense tensor's elements as a flat view in the order in which they lie in memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def decode(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """Return float32 values of flat uint8 codes and their blocks' scales."""
    wide = codes.to(torch.int32)
    magnitude = wide & 0x7F if signed else wide
    bits = torch.where(magnitude == 0, 0, (magnitude << 20) + _BIAS[signed])
    values = bits.view(torch.float32)
    if signed:
        values = torch.where(wide > 0x7F, -values, values)
    return values * scales.repeat_interleave(_BLOCK)[: codes.numel()]


def encode(values: Tensor, *, signed: bool, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return uint8 codes and float32 scales of flat float32 values.

    Args:
        values: the values; without `signed` none is below 0.
        signed: which of the two codes.
        noise: 32 random bits for each element as int64, or ``None`` to round to nearest.
    """
    scales = _scales(values)
    inverse = torch.where(scales == 0.0, 0.0, 1.0 / scales)
    y = values * inverse.repeat_interleave(_BLOCK)[: values.numel()]
    u = y.view(torch.int32).to(torch.int64) & _MASK
    magnitude = u & 0x7FFFFFFF if signed else u
    drawn = torch.full_like(u, 0x80008000) if noise is None else noise
    low = drawn & 0xFFFF if signed else drawn >> 16
    coded = (magnitude - _BIAS[signed] + (low << 4)) >> 20
    if signed:
        small = torch.where(y.abs() < _SMALLEST[True], y.abs(), 0.0)
        tiny = (low < (small * (2.0**31 / 1.125)).to(torch.int64)).to(torch.int64)
        code = torch.where(y.abs() < _SMALLEST[True], tiny, coded) & 0x7F | (u >> 24 & 0x80)
    else:
        code = torch.where(y < _SMALLEST[False], (values > 0.0).to(torch.int64), coded)
    return (code & 0xFF).to(torch.uint8), scales


def _scales(values: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(values, (0, -values.numel() % _BLOCK))
    bits = (padded.view(torch.int32) & 0x7FFFFFFF).view(-1, _BLOCK)
    largest = bits.amax(dim=1) if len(bits) else bits.new_zeros(0)
    rounded = (largest + 0x7FFFFF) & 0x7F800000
    return torch.where(largest < 0x7F800000, rounded, largest).to(torch.int32).view(torch.float32)
