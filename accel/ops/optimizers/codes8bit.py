"""Block-wise 8-bit codes of optimizer states, as ``accel/adam8bit.h`` defines them.

Each block of 256 elements in memory order has a scale, the smallest power of two that no magnitude
in the block exceeds. Signed codes have a sign and 7 bits, unsigned codes 8 bits. Values begin at
2^-31 of the scale. Neighbouring values differ by 1/8 of a power of two; to magnitudes of signed
codes, 2^-15 of the scale is added first. The error is below 1/8 of that if stochastic, and at most
1/16 if nearest.

Signed codes end at 2^127. Unsigned codes go up to infinity; in a block with a value above 2^127, no
value is below 2^96, so that such a block's parameters move little. Only NaN makes a whole block
NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accel.ops.rounding import random_bits

ADAM8BIT_BLOCK = 256
"""Elements of a block."""

LATTICE = 0xC1391E11
"""The difference between the noise of neighbours in a block: ``ACCEL_ADAM8BIT_LATTICE``."""

LARGEST = {True: 0x7F000000, False: 0x7F100000}
"""The largest scales of signed and of unsigned codes, as bits: ``ACCEL_ADAM8BIT_LARGEST_*``."""

_UNIT = {True: 2.0**-15, False: 2.0**-31}
_LEAST = 32 << 23
_INFINITY = 255 << 23
_MASK = 0xFFFFFFFF


def blocks(numel: int) -> int:
    """Return the number of blocks, and so of scales, of a tensor."""
    return -(-numel // ADAM8BIT_BLOCK)


def memory_order(tensor: Tensor) -> Tensor:
    """Return a dense tensor's elements as a flat view in the order of memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def noise(key: int | Tensor, numel: int, device: torch.device) -> Tensor:
    """Return ``codes8bit_noise`` of every element, 32 bits each, as int64."""
    numbers = torch.arange(numel, dtype=torch.int64, device=device)
    rotation = random_bits(key, torch.arange(blocks(numel), dtype=torch.int64, device=device))
    return (_spread(rotation, numel) + numbers % ADAM8BIT_BLOCK * LATTICE) & _MASK


def decode(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """Return float32 values of flat uint8 codes and their blocks' scales."""
    scale = _spread(scales, codes.numel())
    unit = scale * _UNIT[signed]
    wide = codes.to(torch.int32)
    bits = ((wide & 0x7F if signed else wide) << 20) + unit.view(torch.int32)
    values = bits.view(torch.float32)
    if signed:
        values = torch.where(wide > 0x7F, unit - values, values - unit)
    return torch.where(scale > 0.0, values, scale)


def encode(values: Tensor, *, signed: bool, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return uint8 codes and float32 scales of flat float32 values.

    Args:
        values: the values; not negative unless `signed`.
        signed: whether to use signed codes.
        noise: 32 random bits for each element as int64, or ``None`` to round to nearest.
    """
    scales = _scales(values, LARGEST[signed])
    scale = _spread(scales, values.numel())
    unit = scale * _UNIT[signed]
    moved = values.abs().clamp(max=2.0**127) + unit if signed else torch.maximum(values, unit)
    if noise is None:
        low: int | Tensor = 0x80000
    else:
        low = noise & 0xFFFFF if signed else noise >> 12
    steps = moved.view(torch.int32).to(torch.int64) - unit.view(torch.int32) + low
    code = steps >> 20
    if signed:
        code = code & 0x7F | torch.where(values.signbit(), 0x80, 0)
    return torch.where(scale > 0.0, code & 0xFF, 0).to(torch.uint8), scales


def _spread(of_blocks: Tensor, numel: int) -> Tensor:
    """Return each element's block's value."""
    return of_blocks.repeat_interleave(ADAM8BIT_BLOCK)[:numel]


def _scales(values: Tensor, most: int) -> Tensor:
    padded = torch.nn.functional.pad(values, (0, -values.numel() % ADAM8BIT_BLOCK))
    bits = (padded.view(torch.int32) & 0x7FFFFFFF).view(-1, ADAM8BIT_BLOCK)
    largest = bits.amax(dim=1) if len(bits) else bits.new_zeros(0)
    scales = (largest + 0x7FFFFF & 0x7F800000).clamp(min=_LEAST, max=most).view(torch.float32)
    scales = torch.where(largest == 0, 0.0, scales)
    return torch.where(largest > _INFINITY, torch.nan, scales)
