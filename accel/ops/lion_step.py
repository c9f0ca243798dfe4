"""Lion's arithmetic in plain PyTorch, and Lion as a family of kernels: see ``accel/lion.h``."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, where

from accel.ops import abi
from accel.ops.family import Family
from accel.ops.lists import Hyper, TensorLists
from accel.ops.reference import Scalar, grad_factor, learning_rate, narrow, step_each

_STATES = ("exp_avgs",)


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class LionHyper(Hyper):
    """The numbers of one step of Lion.

    Attributes:
        beta1: weight of the moment in the update, in [0, 1).
        beta2: decay rate of the moment, in [0, 1).
    """

    beta1: float
    beta2: float


def lion_reference(tensors: TensorLists, hyper: LionHyper) -> None:
    """Step every tensor of checked lists.

    On the CPU the bits are those of the native kernel, except the payload of NaN.
    """
    step_each(tensors, hyper, _STATES, _update)


def _update(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: LionHyper, time: Scalar
) -> tuple[Tensor, list[Tensor]]:
    lr = learning_rate(hyper, p)
    g = grad * grad_factor(hyper, p, maximize=bool(hyper.flags & abi.LION_MAXIMIZE))
    (m,) = states
    c = m * hyper.beta1 + g * (1.0 - hyper.beta1)
    # torch.sign makes 0 of NaN; here NaN stays visible.
    direction = where(c.isnan(), c, c.sign())
    m = m * hyper.beta2 + g * (1.0 - hyper.beta2)
    keep = narrow(1.0 - lr * hyper.weight_decay, p)
    return p * keep - direction * narrow(lr, p), [m]


LION = Family(
    name="lion",
    args=abi.LionArgs,
    states=_STATES,
    hyper=LionHyper,
    reference=lion_reference,
    flags=abi.LION_MAXIMIZE,
)
