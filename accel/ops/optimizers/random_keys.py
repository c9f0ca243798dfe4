"""The keys of an optimizer's random bits, as ``common/random.h`` defines them, in plain PyTorch."""

from __future__ import annotations

from torch import Tensor

_MASK64 = 0xFFFFFFFFFFFFFFFF
_STEP = 0xD1B54A32D192ED03
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def step_seed(seed: int, step: int) -> int:
    """Return ``accel_random_seed``: the seed of one step."""
    return (seed + _STEP * step) & _MASK64


def random_key(seed: int, step: float | Tensor, tensor: int, stream: int) -> int | Tensor:
    """Return ``accel_random_key`` at a step: 64 bits for one stream of one tensor.

    If the step is on a device, the result is an int64 tensor with the same bits.
    """
    place = 0x9E3779B97F4A7C15 * (tensor * 8 + stream + 1)
    if isinstance(step, Tensor):
        return _mix_on_device(step.long() * _signed(_STEP) + _signed(seed + place))
    z = (step_seed(seed, int(step)) + place) & _MASK64
    z = ((z ^ (z >> 30)) * _FIRST) & _MASK64
    z = ((z ^ (z >> 27)) * _SECOND) & _MASK64
    return z ^ (z >> 31)


def random_keys(seed: int, step: float | Tensor, tensors: Tensor, stream: int) -> Tensor:
    """Return `random_key` of several tensors, given by an int64 tensor of their numbers."""
    first = seed + 0x9E3779B97F4A7C15 * (stream + 1)
    place = tensors * _signed(0x9E3779B97F4A7C15 * 8)
    if isinstance(step, Tensor):
        return _mix_on_device(step.long() * _signed(_STEP) + place + _signed(first))
    return _mix_on_device(place + _signed(first + _STEP * int(step)))


def _mix_on_device(z: Tensor) -> Tensor:
    """Mix as on the host; int64 wraps around as uint64 does, but its shifts copy the sign."""

    def shifted(x: Tensor, by: int) -> Tensor:
        return (x >> by) & (_MASK64 >> by)

    z = (z ^ shifted(z, 30)) * _signed(_FIRST)
    z = (z ^ shifted(z, 27)) * _signed(_SECOND)
    return z ^ shifted(z, 31)


def _signed(value: int) -> int:
    """Return 64 bits as a signed integer."""
    return (value + (1 << 63) & _MASK64) - (1 << 63)
