"""The functions of ``blockwise_quantizer``, each as one declaration."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from accel.ops.checks import shown
from accel.ops.frame.declaration import DeclaredOp
from accel.ops.quantizers import reference
from accel.ops.quantizers.codes import QUANT_TYPES

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
CODES = (torch.uint8,)
FOUR_BIT_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)


def blocks_of(numel: int, blocksize: int) -> int:
    """Return the number of blocks for a number of elements."""
    return -(-numel // blocksize)


class Encode(DeclaredOp):
    """8-bit codes and the largest magnitude of each block.

    `code` has 256 rising values and `order` their codes; if both are ``None``, the dynamic map.
    """

    schema = (
        "blockwise_encode(Tensor a, Tensor? code, Tensor? order, int blocksize) "
        "-> (Tensor codes, Tensor absmax)"
    )
    types: ClassVar = {"a": FLOATS, "code": (torch.float32,), "order": CODES}
    sizes = ("a.numel()", "threads()")

    def check(self, a: Tensor, code: Tensor | None, order: Tensor | None, blocksize: int) -> None:
        """Check the size of blocks, and that there are 256 values."""
        check_blocksize(blocksize)
        if (code is None) != (order is None):
            raise ValueError("code and order must be given both, or neither.")
        check_values(code, "code")
        check_values(order, "order")

    def outputs(
        self, a: Tensor, code: object, order: object, blocksize: int
    ) -> tuple[Tensor, Tensor]:
        """Return uninitialized memory for codes in the shape of `a`, and for one number a block."""
        return room_for(a, a.shape, blocksize)

    def reference(
        self, a: Tensor, code: Tensor | None, order: Tensor | None, blocksize: int
    ) -> tuple[Tensor, Tensor]:
        """Return codes and magnitudes."""
        return reference.encode(a, code, order, blocksize)


class Decode(DeclaredOp):
    """The elements of 8-bit codes; `code` has 256 values, by default the dynamic map's."""

    schema = (
        "blockwise_decode(Tensor coded, Tensor absmax, Tensor? code, int blocksize, "
        "ScalarType dtype) -> Tensor"
    )
    types: ClassVar = {
        "coded": CODES, "absmax": (torch.float32,), "code": (torch.float32,)
    }  # fmt: skip
    sizes = ("coded.numel()", "threads()")

    def check(
        self, coded: Tensor, absmax: Tensor, code: Tensor | None, blocksize: int,
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        """Check the codes, and that there is a number for each block."""
        check_blocksize(blocksize)
        check_values(code, "code")
        check_absmax(absmax, coded.numel(), blocksize)
        check_dtype(dtype)

    def outputs(
        self, coded: Tensor, absmax: object, code: object, blocksize: int, dtype: torch.dtype
    ) -> Tensor:
        """Return uninitialized memory for the elements."""
        return torch.empty(coded.shape, dtype=dtype, device=coded.device)

    def reference(
        self, coded: Tensor, absmax: Tensor, code: Tensor | None, blocksize: int,
        dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        """Return the elements, rounded to nearest."""
        return reference.decode(coded, absmax, code, blocksize, dtype)


class EncodeFour(DeclaredOp):
    """4-bit codes, two a byte in one column, and the largest magnitude of each block."""

    schema = "four_bit_encode(Tensor a, int blocksize, int kind) -> (Tensor packed, Tensor absmax)"
    types: ClassVar = {"a": FLOATS}
    sizes = ("a.numel()", "threads()")
    examples: ClassVar = ({"blocksize": 64, "kind": 0}, {"blocksize": 32, "kind": 1})

    def check(self, a: Tensor, blocksize: int, kind: int) -> None:
        """Check the size of blocks and the kind."""
        check_four_bit(blocksize, kind)

    def outputs(self, a: Tensor, blocksize: int, kind: int) -> tuple[Tensor, Tensor]:
        """Return uninitialized memory for bytes, and for one number a block."""
        return room_for(a, ((a.numel() + 1) // 2, 1), blocksize)

    def reference(self, a: Tensor, blocksize: int, kind: int) -> tuple[Tensor, Tensor]:
        """Return codes and magnitudes."""
        return reference.encode_four(a, blocksize, kind)


class DecodeFour(DeclaredOp):
    """The first `numel` elements of 4-bit codes, flat."""

    schema = (
        "four_bit_decode(Tensor packed, Tensor absmax, int blocksize, int kind, SymInt numel, "
        "ScalarType dtype) -> Tensor"
    )
    types: ClassVar = {"packed": CODES, "absmax": (torch.float32,)}
    sizes = ("threads()",)

    def check(
        self, packed: Tensor, absmax: Tensor, blocksize: int, kind: int, numel: int,
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        """Check that the numbers of bytes and magnitudes fit the number of elements."""
        check_four_bit(blocksize, kind)
        check_dtype(dtype)
        if numel < 0 or packed.numel() != (numel + 1) // 2:
            raise ValueError(
                f"packed has {packed.numel()} bytes; {shown(numel)} elements of 4 bits need "
                f"{(numel + 1) // 2}."
            )
        check_absmax(absmax, numel, blocksize)

    def outputs(
        self, packed: Tensor, absmax: object, blocksize: int, kind: int, numel: int,
        dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        """Return uninitialized memory for the elements."""
        return torch.empty((numel,), dtype=dtype, device=packed.device)

    def reference(
        self, packed: Tensor, absmax: Tensor, blocksize: int, kind: int, numel: int,
        dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        """Return the elements, rounded to nearest."""
        return reference.decode_four(packed, absmax, blocksize, kind, numel, dtype)


def room_for(a: Tensor, shape: tuple[int, ...], blocksize: int) -> tuple[Tensor, Tensor]:
    """Return uninitialized codes of a shape, and a number for each block of `a`."""
    return (
        torch.empty(shape, dtype=torch.uint8, device=a.device),
        torch.empty((blocks_of(a.numel(), blocksize),), dtype=torch.float32, device=a.device),
    )


def check_blocksize(blocksize: int) -> None:
    """Raise `ValueError` unless blocks have an element."""
    if blocksize < 1:
        raise ValueError(f"blocksize is {shown(blocksize)}; expected a number from 1 on.")


def check_four_bit(blocksize: int, kind: int) -> None:
    """Raise `ValueError` unless 4-bit codes support the size of blocks and the kind."""
    if blocksize not in FOUR_BIT_BLOCKS:
        known = ", ".join(map(str, FOUR_BIT_BLOCKS))
        raise ValueError(f"blocksize is {shown(blocksize)}; 4-bit codes take {known}.")
    if not 0 <= kind < len(QUANT_TYPES):
        raise ValueError(f"kind is {shown(kind)}; expected 0 (nf4) or 1 (fp4).")


def check_values(values: Tensor | None, name: str) -> None:
    """Raise `ValueError` unless there is one number for each 8-bit code."""
    if values is not None and values.numel() != 256:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; expected 256 elements, one for each code."
        )


def check_absmax(absmax: Tensor, numel: int, blocksize: int) -> None:
    """Raise `ValueError` unless there is one number for each block."""
    wanted = blocks_of(numel, blocksize)
    if absmax.numel() != wanted:
        raise ValueError(
            f"absmax has {absmax.numel()} elements; {numel} codes in blocks of {blocksize} need "
            f"{wanted}. Pass the blocksize with which they were made."
        )


def check_dtype(dtype: torch.dtype) -> None:
    """Raise `TypeError` unless elements can have this type."""
    if dtype not in FLOATS:
        raise TypeError(f"dtype is {dtype}; expected one of float32, bfloat16, float16.")
