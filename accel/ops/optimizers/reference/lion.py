"""Lion's arithmetic in plain PyTorch, and Lion as a family of kernels: see ``accel/lion.h``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, where

from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.reference.common import Scalar, grad_factor, learning_rate, narrow, times

LION_MAXIMIZE = 1
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
    # Imported here, because loading a native library does not need it.
    from accel.ops.optimizers.reference.stepping import step_each

    step_each(tensors, hyper, _STATES, lion_numbers, lion_update)


def lion_numbers(hyper: LionHyper, like: Tensor, _: Scalar) -> Sequence[Scalar]:
    """Return gradient factor, decay factor and rate."""
    lr = learning_rate(hyper, like)
    factor = grad_factor(hyper, like, maximize=bool(hyper.flags & LION_MAXIMIZE))
    return factor, narrow(1.0 - lr * hyper.weight_decay, like), narrow(lr, like)


def lion_update(
    p: Tensor, grad: Tensor, states: list[Tensor], hyper: LionHyper, numbers: Sequence[Scalar]
) -> tuple[Tensor, list[Tensor]]:
    """Return the new parameter and moment, as `step_each` asks for them."""
    factor, keep, rate = numbers
    g = times(grad, factor)
    (m,) = states
    c = (g * (1.0 - hyper.beta1)).add_(m * hyper.beta1)
    # torch.sign turns NaN into 0; here NaN stays NaN.
    direction = where(c.isnan(), c, c.sign())
    m = (g * (1.0 - hyper.beta2)).add_(m * hyper.beta2)
    return times(p, keep) - direction.mul_(rate), [m]


LION = Family(
    name="lion",
    states=_STATES,
    hyper=LionHyper,
    reference=lion_reference,
    flags=LION_MAXIMIZE,
)
