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
            ``grads``, the states, and ``masters`` (float32 copies from which the parameters are
            rounded), if there are any.
        steps: float32 scalars, the numbers of steps done before, updated; ``None`` if the step's
            number is one of the other numbers.
        extras: further tensors that are written, of any shape, by role.
        numbers: the tensors' numbers for random bits: their indices in a list of which these may be
            a part; a range only if they are the whole list.
        starts: for parts of tensors, the number of the first element in the whole tensor; ``None``:
            all are whole. The dispatcher, devices and 8-bit codes support only whole tensors.
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

    Each op has a subclass with its own numbers; only subclasses have instances.

    Attributes:
        lr: learning rate; `lr_tensor`, a scalar tensor, replaces it.
        weight_decay: coefficient of the decay.
        step: number of this step from 1; used if the tensors have no step counters.
        flags: sum of the op's flags, which are defined beside its family.
        rounding: ``"nearest"`` or ``"stochastic"``, for 16-bit parameters and states.
        seed: seed of stochastic rounding, used with the number of the step.
        grad_scale: float32 scalar above 0 by which gradients are divided, or ``None``.
        clipped: whether `grad_scale` comes from the gradients' norm, and may be NaN like the norm.
        found_inf: float32 scalar, or ``None``; if it is not 0, nothing is done.
        noop_flag: integer scalar, or ``None``; if it is not 0, nothing is done.
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
