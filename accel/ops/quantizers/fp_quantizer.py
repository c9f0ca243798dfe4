"""``fp_quantizer``: floating-point codes of groups, by DeepSpeed's names and in its format."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops.base import Implementation
from accel.ops.checks import shown
from accel.ops.frame.declaration import OpSet
from accel.ops.quantizers.floats import FPDequantize, FPQuantize, FPSelectiveDequantize


class FPQuantizer(OpSet):
    """The op that ``FPQuantizerBuilder`` loads.

    A code has 8 bits (3 or 2 of mantissa), 12 (7), 6 (2) or 4 (1), and a group the scale that makes
    its largest magnitude the format's largest number. Codes, scales and elements have the same bits
    on every rung and device. Elements may be float32 as well as bfloat16 and float16. A NaN or an
    infinity makes its whole group NaN, and a zero stays zero. Autograd follows none of the
    functions.
    """

    name: ClassVar[str] = "fp_quantizer"
    ops: ClassVar = (FPQuantize, FPDequantize, FPSelectiveDequantize)
    functions: ClassVar[tuple[str, ...]] = (
        "quantize", "dequantize", "selective_dequantize", "get_scales"
    )  # fmt: skip

    def __init__(self, library: Implementation | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._quantize = self._loaded[FPQuantize]
        self._dequantize = self._loaded[FPDequantize]
        self._selective = self._loaded[FPSelectiveDequantize]

    def quantize(
        self,
        out: Tensor,
        val: Tensor,
        group_size: int,
        stochastic: int,
        q_bits: int,
        q_mantisa_bits: int,
        *,
        seed: int | None = None,
    ) -> Tensor:
        """Write codes and scales into `out`, and return it.

        Args:
            out: uint8 of groups * (group_size * q_bits / 8 + 4) elements: for each group its codes,
                the first in the lowest bits, then its scale, a float32.
            val: float16, bfloat16 or float32.
            group_size: a divisor of the number of elements of `val`, of which codes fill bytes.
            stochastic: whether to round up or down by chance, with the exact value as the mean,
                rather than to nearest, ties to even.
            q_bits: 8, 12, 6 or 4.
            q_mantisa_bits: 3 or 2 with 8 bits, else 7, 2 or 1. DeepSpeed's 4 with 12 bits is 7.
            seed: of stochastic rounding. Default: drawn from torch's generator of the CPU.

        Raises:
            TypeError: an argument is of another kind or element type.
            ValueError: a number is not as above, or `out` has another size; nothing is written.
        """
        by_chance = bool(_whole("stochastic", stochastic))
        if seed is None:
            seed = (
                int(torch.randint(2**62, (), dtype=torch.int64, device="cpu")) if by_chance else 0
            )
        mantissa = _mantissa(q_bits, q_mantisa_bits)
        self._quantize(val, out, group_size, q_bits, mantissa, by_chance, seed)
        return out

    def dequantize(
        self, val: Tensor, val_q: Tensor, group_size: int, q_mantisa_bits: int,
        q_exponent_bits: int,
    ) -> None:  # fmt: skip
        """Write the elements of codes into `val`, each rounded to nearest once.

        Args:
            val: float16, bfloat16 or float32; any of them, whatever has been encoded.
            val_q: what `quantize` has written, uint8.
            group_size: that of `quantize`.
            q_mantisa_bits: that of `quantize`.
            q_exponent_bits: the bits of a code that are neither the sign nor the mantissa.

        Raises:
            TypeError: an argument is of another kind or element type.
            ValueError: a number or a size is not what `quantize` takes; nothing is written.
        """
        bits, mantissa = _format(q_mantisa_bits, q_exponent_bits)
        self._dequantize(val, val_q, group_size, bits, mantissa)

    def selective_dequantize(
        self, val: Tensor, val_q: Tensor, indexes: Tensor, group_size: int, q_mantisa_bits: int,
        q_exponent_bits: int,
    ) -> None:  # fmt: skip
        """Write the elements of parts of a tensor into `val`, one part after the other.

        Args:
            val: as many parts as `indexes` has elements, each of whole groups.
            val_q: the codes of all parts of the tensor.
            indexes: the numbers of parts, int32.
            group_size: that of `quantize`.
            q_mantisa_bits: that of `quantize`.
            q_exponent_bits: see `dequantize`.

        Raises:
            TypeError: an argument is of another kind or element type.
            ValueError: a number or a size is not what it must be, or, on the host, there is no such
                part; nothing is written. Elsewhere the elements of such a part become NaN.
        """
        bits, mantissa = _format(q_mantisa_bits, q_exponent_bits)
        self._selective(val, val_q, indexes, group_size, bits, mantissa)

    def get_scales(self, out: Tensor, num_groups: int) -> Tensor:
        """Return the scales of groups, float32 of shape (num_groups, 1).

        They share the memory of `out` if it is aligned for floats; otherwise they are a copy.

        Args:
            out: uint8 rows that end with scales: all of what `quantize` has written, or the last
                4 columns of it.
            num_groups: how many rows.

        Raises:
            TypeError: an argument is of another kind or element type.
            ValueError: `out` has another number of rows, or rows that are too short.
        """
        if not isinstance(out, Tensor) or out.dtype != torch.uint8:
            kind = f"dtype {out.dtype}" if isinstance(out, Tensor) else type(out).__name__
            raise TypeError(f"out has {kind}; expected a uint8 tensor.")
        groups = _whole("num_groups", num_groups)
        if out.dim() < 2 or out.shape[-1] < 4 or out.shape[:-1].numel() != groups:
            raise ValueError(
                f"out has shape {tuple(out.shape)}; expected {groups} rows that end with 4 bytes "
                f"of a scale."
            )
        last = out.reshape(groups, out.shape[-1])[:, -4:]
        if last.storage_offset() % 4 or last.stride(0) % 4 or last.stride(1) != 1:
            last = last.clone(memory_format=torch.contiguous_format)
        return last.view(torch.float32)


def _whole(name: str, value: Any) -> int:
    """Return an int that may be given as a bool; raises `TypeError` if it is neither."""
    if not isinstance(value, int):
        raise TypeError(f"{name} is {shown(value)}; expected an int.")
    return int(value)


def _mantissa(bits: Any, mantissa: Any) -> Any:
    """Return the mantissa's bits: DeepSpeed's callers say 4 for 12-bit codes, which have 7."""
    return 7 if bits == 12 and mantissa == 4 else mantissa


def _format(mantissa: Any, exponent: Any) -> tuple[int, int]:
    """Return the bits of a code and those of its mantissa."""
    bits = _whole("q_mantisa_bits", mantissa) + _whole("q_exponent_bits", exponent) + 1
    return bits, _mantissa(bits, mantissa)
