"""Adagrad's arithmetic in plain PyTorch, and as a family of kernels: see ``accel/adagrad.h``."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from accel.ops import abi
from accel.ops.family import Family
from accel.ops.lists import Hyper, TensorLists
from accel.ops.reference import Scalar, grad_factor, learning_rate, narrow, root, step_each

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
    step_each(tensors, hyper, _STATES, _update)


def _update(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: AdagradHyper, time: Scalar
) -> tuple[Tensor, list[Tensor]]:
    rate = learning_rate(hyper, p) / (1.0 + (time - 1.0) * hyper.lr_decay)
    g = grad * grad_factor(hyper, p, maximize=bool(hyper.flags & abi.ADAGRAD_MAXIMIZE))
    if hyper.weight_decay != 0.0:
        g = g + p * hyper.weight_decay
    total = states[0] + g * g
    return p - g * narrow(rate, p) / (root(total) + hyper.eps), [total]


ADAGRAD = Family(
    name="adagrad",
    args=abi.AdagradArgs,
    states=_STATES,
    hyper=AdagradHyper,
    reference=adagrad_reference,
    flags=abi.ADAGRAD_MAXIMIZE,
)
