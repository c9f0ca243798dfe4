"""Moments of 8 bits in specs: numbers that have a code, and the error bounds of `codes8bit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from accel.ops.optimizers.codes8bit import decode, encode
from accel.testing.spec import Lists

_OFFSET = 2.0**-15
"""The offset between a block's scale and the largest number of signed codes."""

_SMALLEST = {True: _OFFSET, False: 2.0**-31}
"""The error below the smallest ordinary number, as a part of the block's scale, by signedness."""


def coded_numbers(given: Lists, moments: Mapping[str, bool]) -> Lists:
    """Return moments as numbers that have a code, at least for blocks in this order.

    Args:
        given: lists of tensors by name.
        moments: names of the moments, and whether their codes are signed.
    """
    return {name: [_coded(one, signed) for one in given[name]] for name, signed in moments.items()}


def _coded(values: Tensor, signed: bool) -> Tensor:
    coded = encode(values.float().reshape(-1), signed=signed)
    return decode(*coded, signed=signed).view(values.shape).to(values.dtype)


def offset_error(moment: Tensor) -> Tensor:
    """Return the error of a signed moment that is exact in one block, in another block."""
    # A block's scale is less than twice its largest magnitude.
    return _OFFSET * 2.0 * moment.abs().max()


def code_error(moment: Tensor, signed: bool) -> Tensor:
    """Return the error of a moment's codes: 1/8 of the value, or the smallest of the block."""
    return moment.abs() / 8.0 + _SMALLEST[signed] * 2.0 * moment.abs().max()


def encoded(
    op: Any, tensors: Lists, moments: Mapping[str, bool]
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Return the codes and scales of a call's moments, by name."""
    return {
        name: [op.quantize_blockwise(one, signed) for one in tensors[name]]
        for name, signed in moments.items()
    }


def decode_into(
    op: Any,
    tensors: Lists,
    coded: Mapping[str, list[tuple[Tensor, Tensor]]],
    moments: Mapping[str, bool],
) -> None:
    """Write the values of codes and scales into a call's moments."""
    for name, signed in moments.items():
        for moment, (codes, scales) in zip(tensors[name], coded[name], strict=True):
            moment.copy_(op.dequantize_blockwise(codes, scales, signed))
