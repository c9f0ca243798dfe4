"""LAMB's arithmetic in plain PyTorch, and LAMB as a family of kernels: see ``accel/lamb.h``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from accel.ops.optimizers.checks import Extra
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.reference.common import (
    Scalar,
    correction,
    count_steps,
    grad_factor,
    learning_rate,
    narrow,
    root,
    skip_flag,
    times,
)

if TYPE_CHECKING:
    from accel.ops.optimizers.reference.batch import Batch

LAMB_BIAS_CORRECTION = 1
LAMB_EPS_INSIDE = 2
LAMB_MAXIMIZE = 4
LAMB_MOMENTS = 8
LAMB_APPLY = 16
PHASES = LAMB_MOMENTS | LAMB_APPLY


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class LambHyper(Hyper):
    """The numbers of one step of LAMB.

    Attributes:
        beta1: decay rate of the first moment, in [0, 1).
        beta2: decay rate of the second moment, in [0, 1).
        eps: added to the root of the second moment, or under it with ``LAMB_EPS_INSIDE``.
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
    """Do the phases that `hyper.flags` names on every tensor of checked lists.

    Moments have the bits of the CPU's native kernel; norms are summed in another order.
    """
    # Imported here, because loading a native library does not need it.
    from accel.ops.optimizers.reference.batches import batches

    moments = bool(hyper.flags & LAMB_MOMENTS)
    # If the same call does the moments' phase, the step has not been counted yet.
    for batch in batches(tensors, hyper, back=not moments, whole=True):
        skip = skip_flag(hyper, batch.tensors.params[0].device)
        if moments:
            _moments(batch, hyper, skip)
        if hyper.flags & LAMB_APPLY:
            _apply(batch, hyper, skip)
    if moments:
        count_steps(tensors, hyper, 1.0)


def _moments(batch: Batch, hyper: LambHyper, skip: Tensor | None) -> None:
    m, v = batch.read("exp_avgs"), batch.read("exp_avg_sqs")
    maximize = bool(hyper.flags & LAMB_MAXIMIZE)
    g = times(batch.read("grads"), grad_factor(hyper, m, maximize=maximize))
    new_m = (g * (1.0 - hyper.beta1)).add_(m * hyper.beta1)
    new_v = (g * (1.0 - hyper.beta2)).mul_(g).add_(v * hyper.beta2)
    if skip is not None:
        new_m, new_v = torch.where(skip, m, new_m), torch.where(skip, v, new_v)
    batch.round("exp_avgs", new_m, hyper, 1)
    batch.round("exp_avg_sqs", new_v, hyper, 2)
    squares = [batch.sums(x.double().square()) for x in _direction(batch, hyper)]
    batch.write_extra("norms", torch.stack(squares, dim=-1))


def _direction(batch: Batch, hyper: LambHyper) -> tuple[Tensor, Tensor]:
    """Return the parameter and its update, before the learning rate."""
    p = batch.read("masters" if "masters" in batch.tensors.roles else "params")
    m, v = batch.read("exp_avgs"), batch.read("exp_avg_sqs")
    inside = bool(hyper.flags & LAMB_EPS_INSIDE)
    denominator = root(v + hyper.eps) if inside else root(v).add_(hyper.eps)
    return p, (p * hyper.weight_decay).add_(m / denominator)


def _apply(batch: Batch, hyper: LambHyper, skip: Tensor | None) -> None:
    norms = batch.read_extra("norms")
    ratio = norms[..., 0].sqrt() / norms[..., 1].sqrt()
    ratio = ratio.clamp(hyper.min_coeff, hyper.max_coeff)
    coeff = torch.where((norms == 0.0).any(-1), 1.0, ratio)
    if "coeffs" in batch.tensors.extras:
        batch.write_extra("coeffs", coeff)
    p, u = _direction(batch, hyper)
    rate = _rate(hyper, p, batch.time) * coeff
    new_p = p - u.mul_(batch.spread(narrow(rate, p)))
    if skip is not None:
        new_p = torch.where(skip, p, new_p)
    if "masters" in batch.tensors.roles:
        batch.write("masters", new_p)
        if skip is not None:
            new_p = torch.where(skip, batch.read("params"), new_p)
    batch.round("params", new_p, hyper, 0)


def _rate(hyper: LambHyper, like: Tensor, time: Scalar) -> Scalar:
    lr = learning_rate(hyper, like)
    if not hyper.flags & LAMB_BIAS_CORRECTION:
        return lr
    c1, c2 = correction(hyper.beta1, time), correction(hyper.beta2, time)
    return lr * (c2.sqrt() if isinstance(c2, Tensor) else math.sqrt(c2)) / c1


def _verify(_: TensorLists, hyper: LambHyper) -> None:
    if not hyper.flags & PHASES:
        raise ValueError(f"flags is {hyper.flags}; expected at least one of LAMB's phases.")
    if hyper.max_coeff < hyper.min_coeff:
        raise ValueError(f"max_coeff is {hyper.max_coeff}; expected at least min_coeff.")


LAMB = Family(
    name="lamb",
    states=("exp_avgs", "exp_avg_sqs"),
    hyper=LambHyper,
    reference=lamb_reference,
    doubles=("lr", "beta1", "beta2", "eps", "weight_decay", "max_coeff", "min_coeff"),
    extras={
        "norms": Extra(torch.float64, lambda _: 2),
        "coeffs": Extra(torch.float32, lambda _: 1, optional=True),
    },
    flags=2 * LAMB_APPLY - 1,
    verify=_verify,
    unordered=True,
)
