"""``blockwise_quantizer`` in plain PyTorch: the formulas of ``accel/blockwise_quantizer.h``."""

from __future__ import annotations

import torch
from torch import Tensor

from accel.ops.quantizers.codes import QUANT_TYPES, dynamic_map, four_bit

_SMALL, _UP = 2.0**-96, 2.0**64


def values_on(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return values of codes as float32 on a device."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def encode(
    a: Tensor, code: Tensor | None, order: Tensor | None, blocksize: int
) -> tuple[Tensor, Tensor]:
    """Return 8-bit codes and the largest magnitudes of blocks."""
    values = values_on(dynamic_map(), a.device) if code is None else code
    places, absmax = _places(a, values, blocksize)
    codes = places.to(torch.uint8) if order is None else order[places.to(torch.int64)]
    return codes.reshape(a.shape), absmax


def decode(
    codes: Tensor, absmax: Tensor, code: Tensor | None, blocksize: int, dtype: torch.dtype
) -> Tensor:
    """Return the elements of 8-bit codes."""
    values = values_on(dynamic_map(), codes.device) if code is None else code
    found = values[codes.reshape(-1).to(torch.int64)]
    return _scaled(found, absmax, blocksize).to(dtype).reshape(codes.shape)


def encode_four(a: Tensor, blocksize: int, kind: int) -> tuple[Tensor, Tensor]:
    """Return 4-bit codes, two a byte, and the largest magnitudes of blocks."""
    four = four_bit(QUANT_TYPES[kind])
    rising = values_on(tuple(four.values[code] for code in four.rising), a.device)
    places, absmax = _places(a, rising, blocksize)
    order = torch.tensor(four.rising, dtype=torch.uint8, device=a.device)
    codes = order[places.to(torch.int64)]
    zero = four.values.index(0.0)
    codes = torch.nn.functional.pad(codes, (0, codes.numel() % 2), value=zero)
    return (codes[::2] << 4 | codes[1::2]).reshape(-1, 1), absmax


def decode_four(
    packed: Tensor, absmax: Tensor, blocksize: int, kind: int, numel: int, dtype: torch.dtype
) -> Tensor:
    """Return the first `numel` elements of 4-bit codes, flat."""
    values = values_on(four_bit(QUANT_TYPES[kind]).values, packed.device)
    flat = packed.reshape(-1)
    codes = torch.stack([flat >> 4, flat & 15], dim=1).reshape(-1)[:numel]
    return _scaled(values[codes.to(torch.int64)], absmax, blocksize).to(dtype)


def _blocks(flat: Tensor, blocksize: int) -> Tensor:
    """Return a flat tensor as rows of blocks, the last one filled with zeros."""
    size = max(1, min(blocksize, flat.numel()))
    return torch.nn.functional.pad(flat, (0, -flat.numel() % size)).view(-1, size)


def _places(a: Tensor, rising: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    """Return how many bounds between rising values are below each element, and absmax."""
    flat = a.reshape(-1).float()
    blocks = _blocks(flat, blocksize)
    if not flat.numel():
        return flat.to(torch.int32), flat.new_empty((0,))
    absmax = blocks.abs().amax(dim=1)
    absmax = torch.where(absmax.isnan(), torch.nan, absmax)
    shift = torch.where(absmax > 1 / _SMALL, 1 / _UP, 1.0)
    shift = torch.where(absmax < _SMALL, _UP, shift)
    inverse = (absmax * shift).reciprocal()
    y = blocks * shift[:, None] * inverse[:, None]
    plain = (absmax > 0.0) & absmax.isfinite()
    endless = torch.where(blocks.isinf() & ~absmax.isnan()[:, None], blocks.sign(), 0.0)
    y = torch.where(plain[:, None], y, endless).reshape(-1)[: flat.numel()]
    bounds = ((rising[:-1] + rising[1:]) / 2).nan_to_num(torch.inf, torch.inf, -torch.inf)
    return torch.bucketize(y, bounds, out_int32=True), absmax


def _scaled(values: Tensor, absmax: Tensor, blocksize: int) -> Tensor:
    rows = _blocks(values, blocksize) * absmax.reshape(-1, 1)
    return rows.reshape(-1)[: values.numel()]
