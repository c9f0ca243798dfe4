"""Lion with an 8-bit moment in plain PyTorch, and as a family of kernels: ``accel/lion8bit.h``."""

from __future__ import annotations

from dataclasses import dataclass

from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.coded import coded_extras, step_coded
from accel.ops.optimizers.reference.lion import (
    LION_MAXIMIZE,
    LionHyper,
    lion_numbers,
    lion_update,
)

LION8BIT_MAXIMIZE = LION_MAXIMIZE

_STATES = {"exp_avgs": True}


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Lion8bitHyper(LionHyper):
    """The numbers of one step: Lion's, with ``LION8BIT_*`` as flags.

    `seed` is also the seed of the moment's stochastic encoding.
    """


def lion8bit_reference(tensors: TensorLists, hyper: Lion8bitHyper) -> None:
    """Step every tensor of checked lists.

    On the CPU the bits are those of the native kernel, except the payload of NaN.
    """
    step_coded(tensors, hyper, _STATES, lion_numbers, lion_update)


LION8BIT = Family(
    name="lion8bit",
    states=(*_STATES,),
    hyper=Lion8bitHyper,
    reference=lion8bit_reference,
    extras=coded_extras(*_STATES),
    coded=True,
    flags=LION8BIT_MAXIMIZE,
)
