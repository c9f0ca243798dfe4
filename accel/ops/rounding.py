"""Rounding of floats to 16 bits, as ``csrc/common/rounding.h`` defines it, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from accel.ops.checks import is_dense

_MASK = 0xFFFFFFFF


def random_bits(key: int | Tensor, elements: Tensor) -> Tensor:
    """Return ``accel_random_bits`` of int64 element numbers, 32 bits each, as int64."""
    x = (elements & _MASK) ^ (key & _MASK)
    x = (x + (elements >> 32) * 0x85EBCA6B) & _MASK
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x + ((key >> 32) & _MASK)) & _MASK
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def element_numbers(tensor: Tensor) -> Tensor:
    """Return each element's number as int64: its place in memory if the tensor is dense."""
    numbers = torch.arange(tensor.numel(), dtype=torch.int64, device=tensor.device)
    if is_dense(tensor):
        return numbers.as_strided(tensor.shape, tensor.stride())
    return numbers.view(tensor.shape)


def stochastic(values: Tensor, dtype: torch.dtype, noise: Tensor) -> Tensor:
    """Return float32 `values` rounded up or down to bfloat16 or float16 by 32 bits of `noise`."""
    u = values.view(torch.int32).to(torch.int64) & _MASK
    magnitude = u & 0x7FFFFFFF
    finite = magnitude < 0x7F800000
    if dtype == torch.bfloat16:
        rounded = torch.where(finite, magnitude + (noise & 0xFFFF), magnitude) >> 16
        body = torch.where(magnitude > 0x7F800000, 0x7FC0, rounded)
    else:
        small = values.abs().clamp(max=2.0**-14).nan_to_num()
        tiny = ((small * 2.0**40).to(torch.int64) + (noise & 0xFFFF)) >> 16
        normal = (magnitude - (112 << 23) + (noise & 0x1FFF)) >> 13
        body = torch.where(magnitude < 113 << 23, tiny, normal)
        body = torch.where(magnitude >= 143 << 23, 0x7C00, body)
        body = torch.where(magnitude > 0x7F800000, 0x7E00, body)
    signed = torch.where(u > 0x7FFFFFFF, body - 0x8000, body)
    return signed.to(torch.int16).view(dtype)


def store(target: Tensor, values: Tensor, rounding: str, key: int | Tensor, start: int = 0) -> None:
    """Write float values into `target`, which may have any strides.

    Args:
        target: the tensor to write.
        values: same shape, in the type of the computation.
        rounding: ``"nearest"`` or ``"stochastic"``; the latter matters for 16-bit targets only.
        key: 64 random bits: ``accel_random_key``.
        start: the number of the target's first element in the tensor of which it is a part.
    """
    if rounding == "nearest" or target.element_size() != 2:
        target.copy_(values)
        return
    target.copy_(rounded(values, target.dtype, key, element_numbers(target) + start))


def rounded(values: Tensor, dtype: torch.dtype, keys: int | Tensor, elements: Tensor) -> Tensor:
    """Return float values stochastically rounded to 16 bits, by keys and numbers of elements."""
    noise = random_bits(keys, elements)
    return stochastic(values.float().contiguous(), dtype, noise.contiguous())
