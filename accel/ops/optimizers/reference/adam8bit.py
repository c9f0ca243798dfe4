"""Adam with 8-bit moments in plain PyTorch, and as a family of kernels: ``accel/adam8bit.h``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam import (
    ADAM_ADAMW,
    ADAM_BIAS_CORRECTION,
    ADAM_MAXIMIZE,
    AdamHyper,
    adam_numbers,
    adam_update,
)
from accel.ops.optimizers.reference.coded import coded_extras, step_coded
from accel.ops.optimizers.reference.common import Scalar

ADAM8BIT_ADAMW = 1
ADAM8BIT_BIAS_CORRECTION = 2
ADAM8BIT_MAXIMIZE = 4

_STATES = {"exp_avgs": True, "exp_avg_sqs": False}
_FLAGS = (
    (ADAM8BIT_ADAMW, ADAM_ADAMW),
    (ADAM8BIT_BIAS_CORRECTION, ADAM_BIAS_CORRECTION),
    (ADAM8BIT_MAXIMIZE, ADAM_MAXIMIZE),
)


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Adam8bitHyper(AdamHyper):
    """The numbers of one step: Adam's, with ``ADAM8BIT_*`` as flags.

    `seed` is also the seed of the moments' stochastic encoding.
    """


def adam8bit_reference(tensors: TensorLists, hyper: Adam8bitHyper) -> None:
    """Step every tensor of checked lists.

    On the CPU the bits are those of the native kernel, except the payload of NaN.
    """
    step_coded(tensors, hyper, _STATES, _numbers, _update)


def _flags(hyper: Adam8bitHyper) -> int:
    """Return the flags as Adam's."""
    return sum(theirs for ours, theirs in _FLAGS if hyper.flags & ours)


def _numbers(hyper: Adam8bitHyper, like: Tensor, time: Scalar) -> Sequence[Scalar]:
    return adam_numbers(hyper, like, time, _flags(hyper))


def _update(
    p: Tensor, grad: Tensor, old: list[Tensor], hyper: Adam8bitHyper, numbers: Sequence[Scalar]
) -> tuple[Tensor, list[Tensor]]:
    return adam_update(p, grad, old, hyper, numbers, _flags(hyper))


ADAM8BIT = Family(
    name="adam8bit",
    states=(*_STATES,),
    hyper=Adam8bitHyper,
    reference=adam8bit_reference,
    extras=coded_extras(*_STATES),
    coded=True,
    flags=2 * ADAM8BIT_MAXIMIZE - 1,
)
