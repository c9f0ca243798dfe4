"""The values of codes of 8 and 4 bits, as ``csrc/common/quantizers/blockwise.h`` has them."""

from __future__ import annotations

import struct
from functools import cache
from itertools import pairwise
from typing import NamedTuple

_TWELFTHS = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)


class FourBit(NamedTuple):
    """A kind of 4-bit codes.

    Attributes:
        kind: its number in ``enum accel_four_bit``.
        values: the value of each code.
        rising: codes in the order of their values; if two have the same value, only one of them.
    """

    kind: int
    values: tuple[float, ...]
    rising: tuple[int, ...]


def float32(x: float) -> float:
    """Return a number rounded to float32."""
    rounded: float = struct.unpack("f", struct.pack("f", x))[0]
    return rounded


@cache
def dynamic_map() -> tuple[float, ...]:
    """Return the 256 values of 8-bit codes, rising.

    There are seven decades. The k-th has 2^k values of each sign, the midpoints of as many steps
    from 0.1 to 1.
    """
    low, positive = float32(0.1), []
    for decade in range(7):
        count, tens = 1 << decade, float32(10.0 ** (decade - 6))
        step = float32((1.0 - low) / count)
        half = (count + 1) // 2
        ends = [
            float32(low + step * k if k < half else 1.0 - step * (count - k))
            for k in range(count + 1)
        ]
        middles = [float32(float32(one + next_) / 2) for one, next_ in pairwise(ends)]
        positive += [float32(tens * middle) for middle in middles]
    return (*(-one for one in reversed(positive)), 0.0, *positive, 1.0)


@cache
def four_bit(quant_type: str) -> FourBit:
    """Return the codes of ``"nf4"`` or ``"fp4"``."""
    if quant_type == "nf4":
        return FourBit(0, _NF4, tuple(range(16)))
    magnitudes = [float32(one / 12.0) for one in _TWELFTHS]
    signed = (*magnitudes, 0.0, *(-one for one in magnitudes[1:]))
    return FourBit(1, signed, (11, 10, 13, 12, 15, 14, 9, 0, 1, 6, 7, 4, 5, 2, 3))


QUANT_TYPES = ("nf4", "fp4")
"""Names of 4-bit codes; an index is the number in ``enum accel_four_bit``."""
