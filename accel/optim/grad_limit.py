"""``max_grad_norm`` as an option of groups, and the norm that a clipping step stores."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops import checks

Group = dict[str, Any]
KEY = "max_grad_norm"
WHOLE = (
    "max_grad_norm needs the norm over all processes, but sees only this one's pieces. Call the "
    "model's own clip_grad_norm_ instead, or shard the model with "
    "torch.distributed.fsdp.fully_shard"
)
"""Why flat parameters of FSDP1 cannot be clipped by their optimizer."""


class LastNorm:
    """The norm of the last step: a compiler keeps attributes of this object, not an optimizer's.

    Attributes:
        value: a scalar tensor, ``None`` if no norm was needed.
    """

    def __init__(self) -> None:
        self.value: Tensor | None = None


class Clipping(torch.optim.Optimizer):
    """An optimizer whose groups have a ``max_grad_norm``."""

    clips_groups: ClassVar[bool] = False
    """Whether a class clips each group by its own norm, instead of by one norm over all."""

    clips: bool = False
    """Whether the current step needs the norm of all gradients."""

    last_norm: LastNorm

    @property
    def grad_norm(self) -> Tensor | None:
        """L2 norm of the last step's gradients before they were clipped: a scalar on their device.

        It is the norm of all groups together, after unscaling. Getting the tensor does not wait for
        the device. ``None`` if no group of that step had a ``max_grad_norm``, and for `FusedLamb`,
        which has a norm for each group. A step that a `GradScaler` skips by not calling it leaves
        the norm of the step before.
        """
        return self.last_norm.value


def set_limit(group: Group, missing: float | None = None) -> None:
    """Make a group's ``max_grad_norm`` a float; raises `TypeError` or `ValueError` naming it.

    `missing` is used if the group, made by an older or another class, has no entry; if it is
    ``None``, such a group raises `KeyError`.
    """
    found = group[KEY] if missing is None else group.get(KEY, missing)
    group[KEY] = checks.check_number(KEY, found, lambda x: x >= 0.0, "a number from 0 on")


def is_clipping(optimizer: Clipping) -> bool:
    """Return whether the next step needs the norm of all gradients, as far as is known so far."""
    if optimizer.clips_groups:
        return False
    limits = [group.get(KEY, 0.0) for group in optimizer.param_groups]
    # Values that are not numbers are refused by `set_limit`.
    return any(type(limit) not in (int, float) or limit > 0 for limit in limits)
