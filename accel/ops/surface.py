"""What call surfaces of optimizer ops share: the kernel, and checks on arguments they all have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from accel.ops.base import Op
from accel.ops.family import Family
from accel.ops.kernel import kernel_for

if TYPE_CHECKING:
    from accel.jit import Library
    from accel.ops.gaudi import Gaudi
    from accel.ops.portable import Portable


class OptimizerOp(Op):
    """An op over lists of tensors.

    Attributes:
        family: the optimizer that it is.
        kernel: runs it, with the loaded library or the reference.
    """

    family: ClassVar[Family]

    def __init__(
        self, library: Library | Portable | Gaudi | None = None, *, backend: str = "cpu"
    ) -> None:
        super().__init__(library, backend=backend)
        self.kernel = kernel_for(self.family, library, backend)


def unpack(tensor_lists: Any, *names: str) -> list[list[Tensor]]:
    """Return the lists of a nested list; raises `ValueError` where their number is another."""
    if not isinstance(tensor_lists, Sequence) or len(tensor_lists) != len(names):
        raise ValueError(f"tensor_lists must be {len(names)} lists: {', '.join(names)}.")
    return [list(tensors) for tensors in tensor_lists]


def check_step(step: Any) -> int:
    """Return the number of a step; raises `TypeError` or `ValueError` unless an int from 1."""
    if isinstance(step, bool) or not isinstance(step, int):
        raise TypeError(f"step is {step!r}; expected an int.")
    if step < 1:
        raise ValueError(f"step is {step!r}; the first step is 1.")
    return step


def check_noop(noop_flag: Any) -> Tensor | None:
    """Return the flag; raises `TypeError` or `ValueError` unless one integer or ``None``."""
    if noop_flag is None:
        return None
    if not isinstance(noop_flag, Tensor) or noop_flag.is_floating_point():
        raise TypeError(f"noop_flag is {noop_flag!r}; expected an integer tensor or None.")
    if noop_flag.numel() != 1:
        raise ValueError(f"noop_flag has {noop_flag.numel()} elements; expected 1.")
    return noop_flag
