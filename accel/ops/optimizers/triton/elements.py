"""Loads and stores of elements, which are float32 in registers, in Triton.

bfloat16 is moved as 16-bit integers, because Triton's interpreter computes and rounds it wrongly.
Element types are the codes of ``enum accel_dtype``; rounding is that of ``csrc/common/rounding.h``.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language import tensor as Value

_FLOAT32 = tl.constexpr(0)
_BFLOAT16 = tl.constexpr(1)


@triton.jit
def at(address: Value, KIND: tl.constexpr, ALIGNED: tl.constexpr) -> Value:
    """Return an address as a pointer to elements of `KIND`."""
    if ALIGNED:
        return tl.multiple_of(address.to(tl.pointer_type(KIND)), 16)
    else:
        return address.to(tl.pointer_type(KIND))


@triton.jit
def load(
    address: Value,
    offsets: Value,
    mask: Value,
    DTYPE: tl.constexpr,
    ALIGNED: tl.constexpr,
) -> Value:
    """Return elements as float32, 0 if `mask` is not set."""
    if DTYPE == _FLOAT32:
        return tl.load(at(address, tl.float32, ALIGNED) + offsets, mask, other=0.0)
    elif DTYPE == _BFLOAT16:
        bits = tl.load(at(address, tl.uint16, ALIGNED) + offsets, mask, other=0)
        return (bits.to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        return tl.load(at(address, tl.float16, ALIGNED) + offsets, mask, other=0.0).to(tl.float32)


@triton.jit
def store(
    address: Value,
    offsets: Value,
    mask: Value,
    x: Value,
    noise: Value,
    DTYPE: tl.constexpr,
    STOCHASTIC: tl.constexpr,
    ALIGNED: tl.constexpr,
) -> None:
    """Write float32 elements, rounded to `DTYPE`; `noise` is read with `STOCHASTIC` only."""
    if DTYPE == _FLOAT32:
        tl.store(at(address, tl.float32, ALIGNED) + offsets, x, mask)
    else:
        if DTYPE == _BFLOAT16:
            bits = _bfloat16(x, noise, STOCHASTIC)
        elif STOCHASTIC:
            bits = _float16(x, noise)
        else:
            bits = x.to(tl.float16).to(tl.uint16, bitcast=True)
        tl.store(at(address, tl.uint16, ALIGNED) + offsets, bits.to(tl.uint16), mask)


@triton.jit
def _bfloat16(x: Value, noise: Value, STOCHASTIC: tl.constexpr) -> Value:
    u = x.to(tl.uint32, bitcast=True)
    magnitude = u & 0x7FFFFFFF
    if STOCHASTIC:
        rounded = tl.where(magnitude < 0x7F800000, u + (noise & 0xFFFF), u) >> 16
    else:
        rounded = (u + 0x7FFF + ((u >> 16) & 1)) >> 16
    return tl.where(magnitude > 0x7F800000, 0x7FC0, rounded)


@triton.jit
def _float16(x: Value, noise: Value) -> Value:
    u = x.to(tl.uint32, bitcast=True)
    sign = (u >> 16) & 0x8000
    magnitude = u & 0x7FFFFFFF
    small = tl.where(magnitude < (113 << 23), magnitude, 0).to(tl.float32, bitcast=True)
    fixed = (small * 1099511627776.0).to(tl.int32).to(tl.uint32)  # 2^40
    tiny = (fixed + (noise & 0xFFFF)) >> 16
    normal = (magnitude - (112 << 23) + (noise & 0x1FFF)) >> 13
    body = tl.where(magnitude < (113 << 23), tiny, normal)
    body = tl.where(magnitude >= (143 << 23), 0x7C00, body)
    return sign | tl.where(magnitude > 0x7F800000, 0x7E00, body)


@triton.jit
def random_seed(seed: Value, step: Value) -> Value:
    """Return ``accel_random_seed(seed, step)``."""
    return seed.to(tl.uint64) + step.to(tl.int64).to(tl.uint64) * 0xD1B54A32D192ED03


@triton.jit
def random_bits(seed: Value, tensor: Value, stream: Value, element: Value) -> Value:
    """Return ``accel_random_bits(accel_random_key(seed, tensor, stream), element)``."""
    place = (element * 0 + tensor * 8 + stream + 1).to(tl.uint64)
    z = seed.to(tl.uint64) + place * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    key = z ^ (z >> 31)
    x = element.to(tl.uint32) ^ key.to(tl.uint32)
    x += (element >> 32).to(tl.uint32) * 0x85EBCA6B
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x += (key >> 32).to(tl.uint32)
    x *= 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def scalar_at(address: Value, KIND: tl.constexpr, otherwise: Value) -> Value:
    """Return the scalar at an address of the device, or `otherwise` if the address is 0."""
    return tl.load(address.to(tl.pointer_type(KIND)), mask=address != 0, other=otherwise)
