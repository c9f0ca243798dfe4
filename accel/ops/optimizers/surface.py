"""The base of optimizer ops' call surfaces: the kernel, and checks on common arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, ClassVar

from torch import Tensor

from accel.ops import checks
from accel.ops.base import Implementation, Op
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.kernel import kernel_for


class OptimizerOp(Op):
    """An op over lists of tensors.

    Attributes:
        family: the op's family.
        kernel: the kernel that runs it, with the loaded library or the reference.
    """

    family: ClassVar[Family]

    def __init__(self, library: Implementation | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self.kernel = kernel_for(self.family, library, backend)

    @classmethod
    def notes(cls, backend: str) -> tuple[str, ...]:
        """Return a note on whether the library or Python checks the tensors of a step."""
        if backend != "cpu":
            from accel.ops.optimizers.prepared.host_watch import notes

            return notes()
        from accel.ops.python_api import python_api

        api = python_api()
        if isinstance(api, str):
            return (f"Before each optimizer step, Python checks every tensor: {api}.",)
        return ("Before each optimizer step, the library checks every tensor.",)


def unpack(tensor_lists: Any, *names: str) -> list[list[Tensor]]:
    """Return the lists of a nested list.

    Raises `ValueError` if their number is wrong, and `TypeError` naming one that is not a list.
    """
    if not isinstance(tensor_lists, Sequence) or len(tensor_lists) != len(names):
        raise ValueError(f"tensor_lists must be {len(names)} lists: {', '.join(names)}.")
    for name, tensors in zip(names, tensor_lists, strict=True):
        if isinstance(tensors, Tensor) or not isinstance(tensors, Iterable):
            kind = type(tensors).__name__
            raise TypeError(f"tensor_lists has a {kind} for {name}; expected a list of tensors.")
    return [list(tensors) for tensors in tensor_lists]


def check_mode(mode: Any, meanings: str = "0 (L2) or 1 (AdamW)") -> int:
    """Return a mode; raises `TypeError` or `ValueError` unless it is 0 or 1."""
    if not isinstance(mode, Integral):
        raise TypeError(f"mode is {checks.shown(mode)}; expected {meanings}.")
    if mode not in (0, 1):
        raise ValueError(f"mode is {checks.shown(mode)}; expected {meanings}.")
    return int(mode)


def check_noop(noop_flag: Any) -> Tensor | None:
    """Return the flag; raises `TypeError` unless it is an integer tensor or ``None``."""
    if noop_flag is None:
        return None
    if not isinstance(noop_flag, Tensor) or noop_flag.is_floating_point():
        raise TypeError(
            f"noop_flag is {checks.shown(noop_flag)}; expected an integer tensor or None."
        )
    return noop_flag


def check_flag(name: str, value: Any) -> bool:
    """Return whether a flag is set; raises `TypeError` or `ValueError` unless it is 0 or 1."""
    if type(value) is not bool:
        if not isinstance(value, Integral) and type(value).__name__ not in ("bool", "bool_"):
            raise TypeError(f"{name} is {checks.shown(value)}; expected a bool.")
        if value not in (0, 1):
            raise ValueError(f"{name} is {checks.shown(value)}; expected a bool.")
    return bool(value)
