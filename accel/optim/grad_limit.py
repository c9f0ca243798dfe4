"""``max_grad_norm`` as an option of groups, and what a step that clips leaves to be read."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops import checks

Group = dict[str, Any]
KEY = "max_grad_norm"
WHOLE = (
    "max_grad_norm needs the norm of all pieces, and sees one process's. Call the model's own "
    "clip_grad_norm_ instead, or shard the model by torch.distributed.fsdp.fully_shard"
)
"""Why flat parameters of FSDP1 cannot be clipped by their optimizer."""


class LastNorm:
    """The norm of the last step; a compiler keeps what is stored here, not in an optimizer.

    Attributes:
        value: a scalar tensor, ``None`` if no norm was needed.
    """

    def __init__(self) -> None:
        self.value: Tensor | None = None


class Clipping(torch.optim.Optimizer):
    """An optimizer whose groups have a ``max_grad_norm``."""

    clips_groups: ClassVar[bool] = False
    """Whether a class clips each group by a norm of its own, in place of one norm over all."""

    clips: bool = False
    """Whether the step under way needs the norm of all gradients."""

    last_norm: LastNorm

    @property
    def grad_norm(self) -> Tensor | None:
        """L2 norm of the last step's gradients before they were clipped: a scalar on their device.

        It is that of all groups together, after unscaling, and reading it waits for nothing.
        ``None`` if no group of that step had a ``max_grad_norm``, and of `FusedLamb`, which has a
        norm for each group.
        """
        return self.last_norm.value


def set_limit(group: Group, missing: float | None = None) -> None:
    """Make a group's ``max_grad_norm`` a float; raises `TypeError` or `ValueError` naming it.

    `missing` is what defaults of an older or another class have; without it, a group that has none
    raises `KeyError`.
    """
    found = group[KEY] if missing is None else group.get(KEY, missing)
    group[KEY] = checks.check_number(KEY, found, lambda x: x >= 0.0, "a number from 0 on")


def is_clipping(optimizer: Clipping) -> bool:
    """Return whether the next step needs the norm of all gradients, as far as that is known yet."""
    if optimizer.clips_groups:
        return False
    limits = [group.get(KEY, 0.0) for group in optimizer.param_groups]
    # What is no number is refused by `set_limit`.
    return any(type(limit) not in (int, float) or limit > 0 for limit in limits)
