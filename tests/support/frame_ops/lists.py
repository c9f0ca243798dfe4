"""Lists written in place, lists reduced to a number, and results of another dtype."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from accel.ops.frame.declaration import DeclaredOp, OpSet


class MovingAverage(DeclaredOp):
    """``a += (1 - decay) * (v - a)``, in place over lists."""

    examples = ({"decay": 0.0}, {"decay": 0.75})
    schema = "moving_average_(Tensor(a!)[] averages, Tensor[] values, float decay) -> ()"
    same = ("values",)
    sizes = ("numels(averages)", "len(averages)")

    def check(self, averages: list[Tensor], values: list[Tensor], decay: float) -> None:
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay is {decay}; expected a number in [0, 1].")

    def reference(self, averages: list[Tensor], values: list[Tensor], decay: float) -> None:
        torch._foreach_lerp_(averages, values, 1.0 - decay)


class TotalNorm(DeclaredOp):
    """The 2-norm of a list of tensors, as one number on their device."""

    schema = "total_norm(Tensor[] tensors) -> Tensor"
    sizes = ("numels(tensors)", "len(tensors)")

    def outputs(self, tensors: list[Tensor]) -> Tensor:
        return torch.empty((), dtype=torch.float32, device=tensors[0].device)

    def reference(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack([*torch._foreach_norm([one.double() for one in tensors])]).norm().float()


class Quantize(DeclaredOp):
    """Codes of 8 bits and a scale for each group."""

    examples = ({"groups": 1}, {"groups": 2})
    schema = "quantize(Tensor values, int groups) -> (Tensor codes, Tensor scales)"
    types: ClassVar = {"values": (torch.float32, torch.float16, torch.bfloat16)}
    sizes = ("values.numel()",)

    def check(self, values: Tensor, groups: int) -> None:
        if groups < 1 or values.numel() % groups:
            raise ValueError(f"groups is {groups}; it must divide {values.numel()} elements.")

    def outputs(self, values: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        return (
            torch.empty(values.shape, dtype=torch.int8, device=values.device),
            torch.empty((groups,), dtype=torch.float32, device=values.device),
        )

    def reference(self, values: Tensor, groups: int) -> tuple[Tensor, Tensor]:
        rows = values.float().reshape(groups, -1)
        scales = rows.abs().amax(1) / 127
        codes = (rows / scales.clamp(min=1e-30)[:, None]).round().clamp(-128, 127)
        return codes.to(torch.int8).reshape(values.shape), scales


class Lists(OpSet):
    """Three functions of one library."""

    name: ClassVar[str] = "lists"
    ops = (MovingAverage, TotalNorm, Quantize)
