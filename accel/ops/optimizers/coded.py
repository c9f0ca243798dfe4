"""The base of ops with 8-bit states. Codes and error bounds: `accel.ops.optimizers.codes8bit`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.codes8bit import blocks, decode, encode, memory_order
from accel.ops.optimizers.surface import OptimizerOp


class CodedOp(OptimizerOp):
    """An op over lists of tensors with states of 8 bits.

    A state is a dense uint8 tensor of the parameter's shape, with a float32 scale for every 256
    elements in the order of its memory.
    """

    functions: ClassVar[tuple[str, ...]] = ("quantize_blockwise", "dequantize_blockwise")

    def quantize_blockwise(self, values: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
        """Return codes (uint8, of the values' shape) and scales, rounded to nearest.

        Args:
            values: floats, on any device; not negative unless `signed`.
            signed: whether to use the code of first moments; else that of second moments.

        Raises:
            TypeError: `values` is not a dense tensor of floats.
            ValueError: `values` has a negative number and `signed` is false.
        """
        checks.check_tensors({"values": [values]}, single=True)
        if not signed and bool((values < 0).any()):
            raise ValueError("values has negative numbers, which need signed=True.")
        dense = values if checks.is_dense(values) else values.contiguous()
        codes, scales = encode(memory_order(dense).float(), signed=bool(signed))
        shaped = torch.empty_like(dense, dtype=torch.uint8)
        memory_order(shaped).copy_(codes)
        return shaped, scales

    def dequantize_blockwise(self, codes: Tensor, scales: Tensor, signed: bool) -> Tensor:
        """Return the float32 values of codes and scales.

        Raises `TypeError` or `ValueError` naming the argument if they do not match.
        """
        check_codes({"codes": [codes]}, {"scales": [scales]})
        values = torch.empty_like(codes, dtype=torch.float32)
        memory_order(values).copy_(decode(memory_order(codes), scales, signed=bool(signed)))
        return values


def check_codes(roles: checks.Roles, extras: checks.Roles) -> None:
    """Check that codes are dense bytes and scales fit them; raises naming the tensor."""
    checks.check_lengths({**roles, **extras})
    coded = [role for role in roles if role not in ("params", "grads", "masters")]
    for role, scaled in zip(coded, extras, strict=True):
        for index, (codes, scales) in enumerate(zip(roles[role], extras[scaled], strict=True)):
            name = checks.label(scaled, index)
            for what, tensor in ((checks.label(role, index), codes), (name, scales)):
                if not isinstance(tensor, Tensor):
                    raise TypeError(f"{what} is a {type(tensor).__name__}; expected a tensor.")
            if codes.dtype != torch.uint8 or not checks.is_dense(codes):
                raise TypeError(f"{checks.label(role, index)} is not a dense tensor of uint8.")
            if scales.dtype != torch.float32 or not scales.is_contiguous():
                raise TypeError(f"{name} is not a contiguous tensor of float32.")
            if scales.numel() != blocks(codes.numel()) or scales.device != codes.device:
                raise ValueError(
                    f"{name} has {scales.numel()} elements on {scales.device}; expected "
                    f"{blocks(codes.numel())} on {codes.device}, one for every 256 codes."
                )
