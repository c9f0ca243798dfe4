"""An op with a derivative: ``silu(gate) * up``."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from accel.ops.frame.declaration import DeclaredOp, OpSet


class SiluMulBackward(DeclaredOp):
    """The derivative of `SiluMul`."""

    schema = "silu_mul_backward(Tensor grad, Tensor gate, Tensor up) -> (Tensor, Tensor)"
    same = ("gate", "up")
    sizes = ("grad.numel()",)

    def outputs(self, grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        return torch.empty_like(gate), torch.empty_like(up)

    def reference(self, grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        part = torch.sigmoid(gate)
        return grad * up * part * (1 + gate * (1 - part)), grad * gate * part


class SiluMul(DeclaredOp):
    """``silu(gate) * up``, element by element."""

    schema = "silu_mul(Tensor gate, Tensor up) -> Tensor"
    same = ("up",)
    sizes = ("gate.numel()",)
    backward = SiluMulBackward

    def outputs(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.empty_like(gate)

    def reference(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.silu(gate) * up


class Scaled(DeclaredOp):
    """An op with numbers of every kind and no derivative."""

    examples = ({"times": 3}, {"times": 2, "factor": 0.1, "negate": True})
    schema = (
        "scaled(Tensor x, Tensor? bias, int times, *, float factor=0.5, bool negate=False) "
        "-> Tensor"
    )
    same = ("bias",)
    sizes = ("x.numel()",)

    def outputs(self, x: Tensor, *_: object) -> Tensor:
        return torch.empty_like(x)

    def check(
        self, x: Tensor, bias: Tensor | None, times: int, factor: float, negate: bool
    ) -> None:
        if times < 0:
            raise ValueError(f"times is {times}; expected a number from 0 on.")

    def reference(
        self, x: Tensor, bias: Tensor | None, times: int, factor: float, negate: bool
    ) -> Tensor:
        found = x * (times * factor * (-1 if negate else 1))
        return found if bias is None else found + bias


class Layers(OpSet):
    """Two functions of one library."""

    name: ClassVar[str] = "layers"
    ops = (SiluMul, Scaled)
