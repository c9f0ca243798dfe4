"""Adagrad's arithmetic in plain PyTorch, and as a family of kernels: see ``accel/adagrad.h``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.reference.common import (
    Scalar,
    grad_factor,
    learning_rate,
    narrow,
    root,
    times,
)

ADAGRAD_MAXIMIZE = 1
_STATES = ("sums",)


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class AdagradHyper(Hyper):
    """The numbers of one step of Adagrad.

    Attributes:
        lr_decay: the rate is ``lr / (1 + (step - 1) * lr_decay)``.
        eps: added to the root of the sum of squares.
    """

    lr_decay: float = 0.0
    eps: float = 1e-10


def adagrad_reference(tensors: TensorLists, hyper: AdagradHyper) -> None:
    """Step every tensor of checked lists.

    On the CPU the bits are those of the native kernel, except the payload of NaN.
    """
    # Imported here, because loading a native library does not need it.
    from accel.ops.optimizers.reference.stepping import step_each

    step_each(tensors, hyper, _STATES, _numbers, _update)


def _numbers(hyper: AdagradHyper, like: Tensor, time: Scalar) -> Sequence[Scalar]:
    """Return gradient factor and rate."""
    rate = learning_rate(hyper, like) / (1.0 + (time - 1.0) * hyper.lr_decay)
    maximize = bool(hyper.flags & ADAGRAD_MAXIMIZE)
    return grad_factor(hyper, like, maximize=maximize), narrow(rate, like)


def _update(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: AdagradHyper, numbers: Sequence[Scalar]
) -> tuple[Tensor, list[Tensor]]:
    factor, rate = numbers
    g = times(grad, factor)
    if hyper.weight_decay != 0.0:
        g = (p * hyper.weight_decay).add_(g)
    total = (g * g).add_(states[0])
    return p - (g * rate).div_(root(total).add_(hyper.eps)), [total]


ADAGRAD = Family(
    name="adagrad",
    states=_STATES,
    hyper=AdagradHyper,
    reference=adagrad_reference,
    flags=ADAGRAD_MAXIMIZE,
)
