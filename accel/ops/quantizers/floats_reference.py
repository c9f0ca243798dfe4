"""``fp_quantizer`` in plain PyTorch: the formulas of ``accel/fp_quantizer.h``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from accel.ops.optimizers.random_keys import random_key
from accel.ops.rounding import random_bits


class FloatFormat(NamedTuple):
    """A format of codes: how many bits they have, and how many of these are the fraction's."""

    bits: int
    mantissa: int

    @property
    def exponent(self) -> int:
        """The bits of the exponent."""
        return self.bits - 1 - self.mantissa

    @property
    def bias(self) -> int:
        """The number that is added to an exponent."""
        return int(2 ** (self.exponent - 1)) - 1

    @property
    def least(self) -> float:
        """The smallest number with a whole fraction."""
        return float(2.0 ** (1 - self.bias))

    @property
    def most(self) -> float:
        """The largest number."""
        return float((2.0 - 2.0**-self.mantissa) * 2.0 ** (2**self.exponent - 1 - self.bias))

    def row(self, group_size: int) -> int:
        """Return the bytes of a group: its codes and its scale."""
        return group_size * self.bits // 8 + 4


FORMATS = tuple(map(FloatFormat, (8, 8, 12, 6, 4), (3, 2, 7, 2, 1)))


def quantize(val: Tensor, group_size: int, how: FloatFormat, seed: int | None) -> Tensor:
    """Return rows of bytes; `seed` is that of stochastic rounding, None of rounding to nearest."""
    rows = val.reshape(-1, group_size).float()
    largest = rows.abs().amax(dim=1, keepdim=True)
    most = torch.full_like(largest, how.most)
    bad = ~largest.isfinite()
    lift = torch.where(largest < 2.0**-100, 2.0**64, 1.0)
    factor = torch.where(bad | (largest == 0.0), 0.0, most / (largest * lift))
    y = (rows.abs() * lift * factor).clamp(max=how.most).nan_to_num(0.0)
    codes = _nearest(y, how) if seed is None else _stochastic(y, how, seed)
    signs = (rows.view(torch.int32) < 0) & ~bad
    scale = torch.where(bad, torch.nan, largest / most)
    return torch.cat([_packed(codes | signs.int() << how.bits - 1, how.bits), _bytes(scale)], dim=1)


def dequantize(rows: Tensor, how: FloatFormat) -> Tensor:
    """Return float32 elements of rows of bytes, a row a group."""
    codes = _unpacked(rows[:, :-4], how.bits)
    # A copy, because these addresses are not aligned for floats.
    scale = rows[:, -4:].clone(memory_format=torch.contiguous_format).view(torch.float32)
    magnitude = codes & (1 << how.bits - 1) - 1
    small = magnitude.float() * 2.0 ** (1 - how.bias - how.mantissa)
    above = magnitude + (127 - how.bias << how.mantissa)
    normal = (above << 23 - how.mantissa).view(torch.float32)
    values = torch.where(magnitude < 1 << how.mantissa, small, normal)
    return torch.where(codes >> how.bits - 1 > 0, -values, values) * scale


def _nearest(y: Tensor, how: FloatFormat) -> Tensor:
    """Return the codes of magnitudes, ties to even."""
    shift = 23 - how.mantissa
    # Adding a float whose unit is the smallest number rounds to it.
    rounder = torch.full_like(y, 2.0 ** (24 - how.bias - how.mantissa))
    small = (y + rounder).view(torch.int32) - rounder.view(torch.int32)
    u = y.view(torch.int32)
    normal = u + (1 << shift - 1) - 1 + (u >> shift & 1) >> shift
    return torch.where(y < how.least, small, normal - (127 - how.bias << how.mantissa))


def _stochastic(y: Tensor, how: FloatFormat, seed: int) -> Tensor:
    """Return the codes of magnitudes, rounded by the random bits of their places."""
    shift, small = 23 - how.mantissa, y < how.least
    key = random_key(seed, 0, 0, 0)
    places = torch.arange(y.numel(), dtype=torch.int64, device=y.device).view(y.shape)
    noise = (random_bits(key, places) & (1 << shift) - 1).int()
    u = torch.where(small, y + how.least, y).view(torch.int32)
    below = 127 - how.bias + small.int() << how.mantissa
    return (u + noise >> shift) - below


def _packed(codes: Tensor, bits: int) -> Tensor:
    """Return the bytes of rows of codes, the first code in the lowest bits."""
    if bits == 8:
        return codes.to(torch.uint8)
    several = 2 if bits == 4 else 24 // bits
    parts = codes.reshape(len(codes), codes.shape[1] // several, several)
    whole = torch.zeros_like(parts[..., 0])
    for at in range(several):
        whole = whole | parts[..., at] << at * bits
    each = [whole >> 8 * at & 255 for at in range(several * bits // 8)]
    return torch.stack(each, dim=-1).to(torch.uint8).reshape(len(codes), -1)


def _unpacked(rows: Tensor, bits: int) -> Tensor:
    """Return the codes of rows of bytes, as int32."""
    wide = rows.int()
    if bits == 8:
        return wide
    several = 2 if bits == 4 else 24 // bits
    size = several * bits // 8
    parts = wide.reshape(len(rows), rows.shape[1] // size, size)
    whole = torch.zeros_like(parts[..., 0])
    for at in range(size):
        whole = whole | parts[..., at] << 8 * at
    codes = [whole >> at * bits & (1 << bits) - 1 for at in range(several)]
    return torch.stack(codes, dim=-1).reshape(len(rows), -1)


def _bytes(scale: Tensor) -> Tensor:
    """Return the bytes of a column of float32."""
    return scale.contiguous().view(torch.uint8)
