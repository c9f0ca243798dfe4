"""The functions of ``fp_quantizer``, each one declaration; the op has DeepSpeed's names."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from accel.ops.checks import shown
from accel.ops.frame.declaration import DeclaredOp
from accel.ops.quantizers import floats_reference as reference
from accel.ops.quantizers.blockwise import FLOATS
from accel.ops.quantizers.floats_reference import FORMATS, FloatFormat

BYTES = (torch.uint8,)


class FPQuantize(DeclaredOp):
    """The codes and scales of groups, a row of bytes each."""

    schema = (
        "fp_quantize(Tensor val, Tensor(a!) out, int group_size, int bits, int mantissa, "
        "bool stochastic=False, int seed=0) -> ()"
    )
    types: ClassVar = {"val": FLOATS, "out": BYTES}
    sizes = ("val.numel()", "out.numel()", "threads()")

    def check(
        self, val: Tensor, out: Tensor, group_size: int, bits: int, mantissa: int,
        stochastic: bool, seed: int,
    ) -> None:  # fmt: skip
        """Check that there is such a format, and that groups are whole and have room."""
        how = check_format(bits, mantissa)
        check_groups("val", val.numel(), group_size, how)
        check_room("out", out, "val", val.numel() // group_size, group_size, how)

    def reference(
        self, val: Tensor, out: Tensor, group_size: int, bits: int, mantissa: int,
        stochastic: bool, seed: int,
    ) -> None:  # fmt: skip
        """Write the rows."""
        how = FloatFormat(bits, mantissa)
        if val.numel():
            rows = reference.quantize(val, group_size, how, seed if stochastic else None)
            out.copy_(rows.reshape(out.shape))


class FPDequantize(DeclaredOp):
    """The elements of all rows."""

    schema = (
        "fp_dequantize(Tensor(a!) val, Tensor coded, int group_size, int bits, int mantissa) -> ()"
    )
    types: ClassVar = {"val": FLOATS, "coded": BYTES}
    sizes = ("val.numel()", "coded.numel()", "threads()")

    def check(self, val: Tensor, coded: Tensor, group_size: int, bits: int, mantissa: int) -> None:
        """Check that there is such a format, and that groups are whole and have codes."""
        how = check_format(bits, mantissa)
        check_groups("val", val.numel(), group_size, how)
        check_room("val_q", coded, "val", val.numel() // group_size, group_size, how)

    def reference(
        self, val: Tensor, coded: Tensor, group_size: int, bits: int, mantissa: int
    ) -> None:
        """Write the elements, rounded to nearest."""
        how = FloatFormat(bits, mantissa)
        if val.numel():
            found = reference.dequantize(coded.reshape(-1, how.row(group_size)), how)
            val.copy_(found.reshape(val.shape))


class FPSelectiveDequantize(DeclaredOp):
    """The elements of rows that are chosen, as many for each index."""

    schema = (
        "fp_selective_dequantize(Tensor(a!) val, Tensor coded, Tensor indexes, int group_size, "
        "int bits, int mantissa) -> ()"
    )
    types: ClassVar = {"val": FLOATS, "coded": BYTES, "indexes": (torch.int32,)}
    sizes = ("val.numel()", "coded.numel()", "indexes.numel()", "threads()")

    def check(
        self, val: Tensor, coded: Tensor, indexes: Tensor, group_size: int, bits: int,
        mantissa: int,
    ) -> None:  # fmt: skip
        """Check that there is such a format, and that groups are whole, also for each index."""
        how = check_format(bits, mantissa)
        check_groups("val", val.numel(), group_size, how)
        count, row = indexes.numel(), how.row(group_size)
        if coded.numel() % row:
            raise ValueError(
                f"val_q has {coded.numel()} bytes; expected rows of {row}: {group_size} codes of "
                f"{bits} bits and a scale."
            )
        groups = val.numel() // group_size
        if groups % count if count else groups:
            raise ValueError(
                f"indexes has {count} elements, among which the {groups} groups of val cannot be "
                f"divided."
            )

    def reference(
        self, val: Tensor, coded: Tensor, indexes: Tensor, group_size: int, bits: int,
        mantissa: int,
    ) -> None:  # fmt: skip
        """Write the elements; an index out of range is refused on the host, else it gives NaN."""
        how = FloatFormat(bits, mantissa)
        if not val.numel():
            return
        each, row = val.numel() // group_size // indexes.numel(), how.row(group_size)
        count = coded.numel() // row // each
        at = indexes.reshape(-1).long()
        outside = (at < 0) | (at >= count)
        if indexes.is_cpu and bool(outside.any()):
            raise ValueError(
                f"indexes has {int(at[outside][0])}; val_q has rows for 0 to {count - 1}."
            )
        parts = coded.reshape(-1)[: count * each * row].view(count, each * row)
        if not count:
            val.fill_(torch.nan)
            return
        chosen = parts[at.clamp(0, count - 1)].reshape(-1, row)
        found = reference.dequantize(chosen, how).view(len(at), -1)
        val.copy_(torch.where(outside[:, None], torch.nan, found).reshape(val.shape))


def check_format(bits: int, mantissa: int) -> FloatFormat:
    """Return a format; raises `ValueError` if there is none."""
    found = FloatFormat(bits, mantissa)
    if found not in FORMATS:
        known = ", ".join(f"{one.bits} with {one.mantissa}" for one in FORMATS)
        raise ValueError(
            f"q_bits is {shown(bits)} with {shown(mantissa)} of q_mantisa_bits; expected {known}."
        )
    return found


def check_groups(name: str, numel: int, group_size: int, how: FloatFormat) -> None:
    """Raise `ValueError` unless groups divide elements and end with a byte."""
    if group_size < 1 or numel % group_size:
        raise ValueError(
            f"group_size is {shown(group_size)}; expected a divisor of the {numel} elements of "
            f"{name}."
        )
    if group_size * how.bits % 8:
        raise ValueError(
            f"group_size is {group_size}: groups of so many codes of {how.bits} bits end inside a "
            f"byte; make it a multiple of 4."
        )


def check_room(
    name: str, rows: Tensor, of: str, groups: int, group_size: int, how: FloatFormat
) -> None:
    """Raise `ValueError` unless a tensor has the bytes of so many groups."""
    wanted = groups * how.row(group_size)
    if rows.numel() != wanted:
        raise ValueError(
            f"{name} has {rows.numel()} bytes; the {groups} groups of {of} take {wanted}: "
            f"{group_size} codes of {how.bits} bits and a scale of 4 bytes each."
        )
