"""Inputs for Adam's tests, and Adam in float64 with nothing clever about it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Case:
    """One tensor's step."""

    param: Tensor
    grad: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor

    @staticmethod
    def random(
        shape: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        state: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> Case:
        make = torch.Generator().manual_seed(seed)
        return Case(
            torch.randn(shape, generator=make).to(dtype),
            torch.randn(shape, generator=make).to(dtype),
            torch.randn(shape, generator=make).to(state),
            torch.rand(shape, generator=make).to(state),
        )

    def clone(self) -> Case:
        return Case(*(tensor.clone() for tensor in self.tensors()))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (self.param, self.grad, self.exp_avg, self.exp_avg_sq)

    def lists(self) -> list[list[Tensor]]:
        return [[self.grad], [self.param], [self.exp_avg], [self.exp_avg_sq]]


def exact(
    case: Case,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    step: int,
    mode: int,
    bias_correction: bool,
    weight_decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return parameter and moments after the step, in float64."""
    p, g, m, v = (tensor.double() for tensor in case.tensors())
    beta1, beta2 = betas
    if mode == 0:
        g = g + weight_decay * p
    else:
        p = p * (1 - lr * weight_decay)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    c1 = 1 - beta1**step if bias_correction else 1.0
    c2 = 1 - beta2**step if bias_correction else 1.0
    p = p - lr * (m / c1) / (v.sqrt() / math.sqrt(c2) + eps)
    return p, m, v
