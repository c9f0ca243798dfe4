"""Lists of tensors, what the functions over them give in float64, and every way to run them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accel.builders.cpu import MultiTensorBuilder
from accel.ops.lists.multi_tensor import MultiTensor

TYPES = (torch.float32, torch.bfloat16, torch.float16)
NUMELS = (0, 1, 31, 32, 33, 1023, 1025, 8191, 8193, 3 * 8192 + 5, 0)


def rungs() -> dict[str, MultiTensor]:
    """Return the native op and the reference."""
    return {"native": MultiTensorBuilder().jit_load(), "reference": MultiTensor()}


def mixed(seed: int = 0, numels: Any = NUMELS) -> list[Tensor]:
    """Return tensors of all types in one list."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(numel, generator=generator, dtype=torch.float32, device="cpu").to(TYPES[at % 3])
        for at, numel in enumerate(numels)
    ]


def flag(value: int = 0) -> Tensor:
    return torch.full((1,), value, dtype=torch.int32, device="cpu")


def exact_norm(tensors: list[Tensor]) -> Tensor:
    wide = [one.double().flatten() for one in tensors]
    return torch.cat(wide).norm() if wide else torch.zeros((), dtype=torch.float64)


def within_a_step(found: Tensor, exact: Tensor) -> bool:
    """Whether float32 numbers are at most one step from the exact ones."""
    nearest = exact.float()
    below, above = (torch.nextafter(nearest, torch.full_like(nearest, end))
                    for end in (-torch.inf, torch.inf))  # fmt: skip
    return bool(((found >= below) & (found <= above)).all())


def same_bits(left: list[Tensor], right: list[Tensor]) -> bool:
    """Whether lists hold the same numbers in the same types; NaN equals NaN."""
    return all(
        one.dtype == other.dtype
        and torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0))
        and torch.equal(one.isnan(), other.isnan())
        for one, other in zip(left, right, strict=True)
    )
