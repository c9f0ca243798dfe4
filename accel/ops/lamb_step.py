"""LAMB's arithmetic in plain PyTorch, and LAMB as a family of kernels: see ``accel/lamb.h``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from accel.ops import abi
from accel.ops.family import Family
from accel.ops.lists import Hyper, TensorLists
from accel.ops.reference import (
    Scalar,
    count_steps,
    grad_factor,
    learning_rate,
    narrow,
    root,
    skip_flag,
    step_number,
)
from accel.ops.rounding import random_key, store

PHASES = abi.LAMB_MOMENTS | abi.LAMB_APPLY


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class LambHyper(Hyper):
    """The numbers of one step of LAMB.

    Attributes:
        beta1: decay rate of the first moment, in [0, 1).
        beta2: decay rate of the second moment, in [0, 1).
        eps: added to the root of the second moment, or under it with ``abi.LAMB_EPS_INSIDE``.
        max_coeff: upper bound of the ratio of the norms.
        min_coeff: lower bound of the ratio of the norms.
    """

    beta1: float
    beta2: float
    eps: float
    max_coeff: float
    min_coeff: float


@torch.no_grad()
def lamb_reference(tensors: TensorLists, hyper: LambHyper) -> None:
    """Do the phases that `hyper.flags` names on every tensor of checked lists."""
    for index, param in enumerate(tensors.params):
        wide = torch.float64 if param.dtype == torch.float64 else torch.float32
        skip = skip_flag(hyper, param.device)
        if hyper.flags & abi.LAMB_MOMENTS:
            _moments(tensors, index, hyper, wide, skip)
        if hyper.flags & abi.LAMB_APPLY:
            _apply(tensors, index, hyper, wide, skip)
    if hyper.flags & abi.LAMB_MOMENTS:
        count_steps(tensors, hyper, 1.0)


def _moments(
    tensors: TensorLists, index: int, hyper: LambHyper, wide: torch.dtype, skip: Tensor | None
) -> None:
    roles = tensors.roles
    exp_avg, exp_avg_sq = roles["exp_avgs"][index], roles["exp_avg_sqs"][index]
    m, v = exp_avg.to(wide), exp_avg_sq.to(wide)
    g = roles["grads"][index].to(wide)
    g = g * grad_factor(hyper, g, maximize=bool(hyper.flags & abi.LAMB_MAXIMIZE))
    new_m = m * hyper.beta1 + g * (1.0 - hyper.beta1)
    new_v = v * hyper.beta2 + g * (1.0 - hyper.beta2) * g
    if skip is not None:
        new_m, new_v = torch.where(skip, m, new_m), torch.where(skip, v, new_v)
    time = step_number(tensors, index, hyper)
    number, start = tensors.numbers[index], tensors.start(index)
    store(exp_avg, new_m, hyper.rounding, random_key(hyper.seed, time, number, 1), start)
    store(exp_avg_sq, new_v, hyper.rounding, random_key(hyper.seed, time, number, 2), start)
    p, u = _direction(tensors, index, hyper, wide)
    squares = [p.double().square().sum(), u.double().square().sum()]
    tensors.extras["norms"][index].copy_(torch.stack(squares))


def _direction(
    tensors: TensorLists, index: int, hyper: LambHyper, wide: torch.dtype
) -> tuple[Tensor, Tensor]:
    roles = tensors.roles
    p = roles.get("masters", roles["params"])[index].to(wide)
    m, v = roles["exp_avgs"][index].to(wide), roles["exp_avg_sqs"][index].to(wide)
    inside = bool(hyper.flags & abi.LAMB_EPS_INSIDE)
    denominator = root(v + hyper.eps) if inside else root(v) + hyper.eps
    return p, m / denominator + p * hyper.weight_decay


def _apply(
    tensors: TensorLists, index: int, hyper: LambHyper, wide: torch.dtype, skip: Tensor | None
) -> None:
    roles = tensors.roles
    norms = tensors.extras["norms"][index]
    ratio = norms[0].sqrt() / norms[1].sqrt()
    ratio = ratio.clamp(hyper.min_coeff, hyper.max_coeff)
    coeff = torch.where((norms == 0.0).any(), 1.0, ratio)
    if "coeffs" in tensors.extras:
        tensors.extras["coeffs"][index].copy_(coeff)
    # The moments' phase of the same call has not counted the step yet.
    both = hyper.flags & PHASES == PHASES
    p, u = _direction(tensors, index, hyper, wide)
    time = step_number(tensors, index, hyper, back=not both)
    rate = _rate(hyper, p, time) * coeff
    new_p = p - u * narrow(rate, p)
    param, main = roles["params"][index], roles.get("masters", roles["params"])[index]
    if skip is not None:
        new_p = torch.where(skip, p, new_p)
    if main is not param:
        main.copy_(new_p)
        if skip is not None:
            new_p = torch.where(skip, param.to(wide), new_p)
    key = random_key(hyper.seed, time, tensors.numbers[index], 0)
    store(param, new_p, hyper.rounding, key, tensors.start(index))


def _rate(hyper: LambHyper, like: Tensor, time: Scalar) -> Scalar:
    lr = learning_rate(hyper, like)
    if not hyper.flags & abi.LAMB_BIAS_CORRECTION:
        return lr
    c1, c2 = 1.0 - hyper.beta1**time, 1.0 - hyper.beta2**time
    return lr * (c2.sqrt() if isinstance(c2, Tensor) else math.sqrt(c2)) / c1


def _verify(_: TensorLists, hyper: LambHyper) -> None:
    if not hyper.flags & PHASES:
        raise ValueError(f"flags is {hyper.flags}; expected one of LAMB's phases in it.")
    if hyper.max_coeff < hyper.min_coeff:
        raise ValueError(f"max_coeff is {hyper.max_coeff}; expected min_coeff or more.")


LAMB = Family(
    name="lamb",
    args=abi.LambArgs,
    states=("exp_avgs", "exp_avg_sqs"),
    hyper=LambHyper,
    reference=lamb_reference,
    extras=("norms", "coeffs"),
    flags=2 * abi.LAMB_APPLY - 1,
    verify=_verify,
    clips=True,
    unordered=True,
)
