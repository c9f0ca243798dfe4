"""Arguments of one call of an optimizer op: lists of tensors, and the numbers of the step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

_T = TypeVar("_T")


class TensorLists:
    """Lists of one length, entry i of each for tensor i.

    Attributes:
        roles: full-size tensors by role, named as in the op's C struct: ``params`` first, then
            ``grads``, the states, and ``masters`` (float32 copies that the parameters are rounded
            from) where there are any.
        steps: float32 scalars, the steps done before, updated; ``None`` if the step's number is
            given with the other numbers.
        extras: further tensors that are written, each of a shape of its own, by role.
        numbers: what random bits know the tensors by: their places in the list of which these may
            be a part; a range only if they are that list.
        starts: likewise of elements: which ones of a whole tensor these begin with; ``None``: all
            are whole. The dispatcher, devices and 8-bit codes know whole tensors only.
    """

    __slots__ = ("extras", "numbers", "roles", "starts", "steps")

    def __init__(
        self,
        roles: dict[str, Sequence[Tensor]],
        steps: Sequence[Tensor] | None = None,
        extras: dict[str, Sequence[Tensor]] | None = None,
        numbers: Sequence[int] | None = None,
        starts: Sequence[int] | None = None,
    ) -> None:
        self.roles = roles
        self.steps = steps
        self.extras = {} if extras is None else extras
        self.numbers = range(len(self.params)) if numbers is None else numbers
        self.starts = starts

    @property
    def params(self) -> Sequence[Tensor]:
        """The parameters."""
        return self.roles["params"]

    @property
    def grads(self) -> Sequence[Tensor]:
        """The gradients."""
        return self.roles["grads"]

    def start(self, index: int) -> int:
        """Return the number of a tensor's first element in the whole tensor."""
        return 0 if self.starts is None else self.starts[index]

    def select(self, indices: Iterable[int]) -> TensorLists:
        """Return the same lists with only these entries."""
        chosen = tuple(indices)

        def pick(listed: Sequence[_T]) -> Sequence[_T]:
            return tuple([listed[index] for index in chosen])

        return TensorLists(
            {role: pick(listed) for role, listed in self.roles.items()},
            None if self.steps is None else pick(self.steps),
            {role: pick(listed) for role, listed in self.extras.items()},
            pick(self.numbers),
            None if self.starts is None else pick(self.starts),
        )

    def by_field(self) -> dict[str, Sequence[Tensor]]:
        """Return every list by its field of the op's C struct."""
        steps = {} if self.steps is None else {"steps": self.steps}
        return {**self.roles, **steps, **self.extras}

    def written(self) -> dict[str, Sequence[Tensor]]:
        """Return the lists of tensors that a step writes, steps left out."""
        written = {role: listed for role, listed in self.roles.items() if role != "grads"}
        return {**written, **self.extras}


@dataclass(slots=True, kw_only=True, init=False, eq=False, repr=False)
class Hyper:
    """The numbers of a step that every op has, the same for all tensors of a call.

    Each op has a subclass with the numbers of its own; only those are made.

    Attributes:
        lr: learning rate; `lr_tensor`, a scalar tensor, replaces it.
        weight_decay: coefficient of the decay.
        step: number of this step from 1; read where the tensors bring no steps.
        flags: sum of the op's flags, which stand beside its family.
        rounding: ``"nearest"`` or ``"stochastic"``, of 16-bit parameters and states.
        seed: of stochastic rounding, together with the number of the step.
        grad_scale: float32 scalar above 0 that gradients are divided by, or ``None``.
        clipped: whether `grad_scale` comes of the gradients' norm, and may be no number as that is.
        found_inf: float32 scalar; where it is not 0 nothing is done. Or ``None``.
        noop_flag: integer scalar; where it is not 0 nothing is done. Or ``None``.
    """

    lr: float
    weight_decay: float
    step: int = 1
    flags: int = 0
    rounding: str = "nearest"
    seed: int = 0
    lr_tensor: Tensor | None = None
    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None
    noop_flag: Tensor | None = None
    clipped: bool = False
