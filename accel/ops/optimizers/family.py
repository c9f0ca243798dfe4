"""`Family`: the properties of one optimizer op, and its op in the dispatcher."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from string import ascii_lowercase
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.abi import ROUNDING, make_struct
from accel.ops.optimizers.checks import Extra, check_beta, check_step
from accel.ops.optimizers.lists import Hyper, TensorLists

# Older releases cannot tell during a trace; then a number is treated as varying.
_TELLS_NUMBERS = (*map(int, torch.__version__.split(".")[:2]),) >= (2, 13)
_SCALAR_TENSORS = ("lr_tensor", "grad_scale", "found_inf", "noop_flag")
_RANGES: dict[str, Callable[[str, Any], float]] = {
    "beta": check_beta,
    "max_coeff": partial(
        checks.check_number, allowed=lambda x: x >= 0.0, expected="a number from 0 on"
    ),
}
_registering = Lock()
_COMMON = {field.name for field in fields(Hyper)} - {"lr", "weight_decay"}


def check_scalars(hyper: Any) -> None:
    """Check the scalar tensors of a step; raises `TypeError` or `ValueError` naming one."""
    for name in _SCALAR_TENSORS:
        value = getattr(hyper, name)
        if value is not None:
            check_scalar(name, value)


def check_scalar(name: str, value: Any) -> None:
    """Check one scalar tensor, but not its value; raises `TypeError` or `ValueError` naming it."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is {checks.shown(value)}; expected a real tensor of one element.")
    if value.is_complex():
        raise TypeError(f"{name} has dtype {value.dtype}; expected a real number.")
    if value.layout is not torch.strided:
        raise TypeError(f"{name} has layout {value.layout}; expected a dense tensor.")
    if value.numel() != 1:
        raise ValueError(f"{name} has {value.numel()} elements; expected 1.")
    if value.device.type == "meta":
        raise ValueError(f"{name} is on meta, where tensors have no values; expected one number.")
    checks.check_storage(value, name)


def check_scale(scale: Tensor | None, found_inf: Tensor | None, *, clips: bool = False) -> None:
    """Raise `ValueError` for a scale that would make a gradient NaN or reverse its sign.

    A scale on a device is not read, since that would be a wait: gradients are divided by its value,
    as torch's fused optimizers do everywhere. If `found_inf` is set, nothing is divided. With
    `clips` the scale may come from the gradients' norm, which may be NaN, but is not negative.
    """
    if scale is None or scale.device.type != "cpu":
        return
    if found_inf is not None and found_inf.device.type == "cpu" and bool(found_inf != 0):
        return
    # Kernels use it, and its inverse, as float32.
    value = float(scale.detach().float())
    if value < 0.0 if clips else not 2.0**-127 <= value < math.inf:
        raise ValueError(
            f"grad_scale is {float(scale)}, by which gradients are divided; expected a finite "
            f"number of at least 2**-127 in float32. To maximize, set maximize instead."
        )


class Family:
    """One optimizer op on every device.

    Args:
        name: ``"adam"``: libraries export ``accel_adam_step``, the dispatcher has
            ``accel::adam_step``.
        states: roles of the states that every tensor has; all states have one dtype.
        extra_states: roles of states that a call may leave out.
        hyper: the numbers of a step, a dataclass.
        reference: steps checked tensors in plain PyTorch.
        extras: written tensors of other shapes than the parameter's, by role.
        doubles: the numbers in the struct's order. Default: the rate, the op's own, the decay.
        coded: whether states are 8-bit codes, not floats.
        flags: sum of all flags that the op knows.
        verify: checks numbers and flags that depend on each other; raises naming one of them.
        unordered: whether native libraries of devices sum in an order that varies.

    Attributes:
        args: the argument struct of the native step.
        symbol: the native entry point.
        extras: roles of `extra_kinds`, the written tensors of other shapes.
        floats: names of the op's floating-point numbers.
        numbers: names of all numbers that are also in the struct.
    """

    def __init__(
        self,
        name: str,
        states: tuple[str, ...],
        hyper: type[Any],
        reference: Callable[[TensorLists, Any], None],
        extra_states: tuple[str, ...] = (),
        extras: Mapping[str, Extra] | None = None,
        doubles: tuple[str, ...] = (),
        coded: bool = False,
        flags: int = 0,
        verify: Callable[[TensorLists, Any], None] | None = None,
        unordered: bool = False,
    ) -> None:
        self.name = name
        self.states = states
        self.extra_states = extra_states
        self.extra_kinds: Mapping[str, Extra] = extras or {}
        self.extras = tuple(self.extra_kinds)
        self.coded = coded
        self._flags = flags
        self._is_registered = False
        self._verify = verify
        self.unordered = unordered
        self.hyper = hyper
        self.reference = reference
        self.symbol = f"accel_{name}_step"
        self.floats = tuple(field.name for field in fields(hyper) if field.name not in _COMMON)
        own = (name for name in self.floats if name not in ("lr", "weight_decay"))
        doubles = doubles or ("lr", *own, "weight_decay")
        self.args = make_struct(name, (*states, *extra_states), self.extras, doubles)
        self.numbers = (*self.floats, "step", "seed", "flags")
        self._roles = ("params", "grads", *states, *extra_states, "masters")
        self._scalars = (*_SCALAR_TENSORS, *self.floats, "step", "flags", "rounding", "seed")

    def schema(self) -> str:
        """Return the dispatcher's schema: flat lists, everything but gradients written."""
        letters = iter(ascii_lowercase)
        required = [f"Tensor({next(letters)}!)[] params", "Tensor[] grads"]
        required += [f"Tensor({next(letters)}!)[] {role}" for role in self.states]
        optional = (*self.extra_states, "masters", "steps", *self.extras)
        parts = (
            *required,
            *(f"Tensor({next(letters)}!)[]? {role}" for role in optional),
            *(f"Tensor? {name}" for name in _SCALAR_TENSORS),
            *(f"float {name}" for name in self.floats),
            "SymInt step, int flags, str rounding, SymInt seed, str kernel, Tensor? numbers=None, "
            "int[]? tensor_numbers=None, bool clipped=False",
        )
        return f"({', '.join(parts)}) -> ()"

    def check_numbers(self, tensors: TensorLists, hyper: Any) -> None:
        """Check numbers of a dispatcher's call: raises `ValueError` naming the argument."""
        for name in self.floats:
            check = _RANGES.get(name.rstrip("0123456789"), checks.check_not_negative)
            check(name, getattr(hyper, name))
        if tensors.steps is None:
            check_step(hyper.step)
        if hyper.flags & ~self._flags:
            raise ValueError(
                f"flags is {hyper.flags}; expected a sum of flags of {self.name}, at most "
                f"{self._flags}."
            )
        if hyper.rounding not in ROUNDING:
            raise ValueError(f"rounding is {hyper.rounding!r}; expected one of {[*ROUNDING]}.")
        check_scale(hyper.grad_scale, hyper.found_inf, clips=hyper.clipped)
        if self._verify is not None:
            self._verify(tensors, hyper)

    def dispatch(self, key: str, tensors: TensorLists, hyper: Any) -> None:
        """Step through the dispatcher's op, which ``torch.compile`` can trace."""
        floats: list[Any] = [getattr(hyper, name) for name in self.floats]
        numbers = gather(floats)
        if numbers is not None:
            floats = [0.0] * len(floats)
        getattr(torch.ops.accel, f"{self.name}_step")(
            *[tensors.roles.get(role) for role in self._roles],
            tensors.steps,
            *[tensors.extras.get(role) for role in self.extras],
            *[getattr(hyper, name) for name in _SCALAR_TENSORS],
            *floats,
            hyper.step,
            hyper.flags,
            hyper.rounding,
            signed(hyper.seed),
            key,
            numbers,
            None if isinstance(tensors.numbers, range) else [*tensors.numbers],
            hyper.clipped,
        )

    def register(self, run: Callable[[str, TensorLists, Any], None]) -> None:
        """Put the op into the dispatcher, unless it is already there; `run` steps by key."""
        with _registering:
            if not self._is_registered:
                self._register(run)
                self._is_registered = True

    def _register(self, run: Callable[[str, TensorLists, Any], None]) -> None:
        optional: dict[str, Any] = {"numbers": None, "tensor_numbers": None, "clipped": False}
        names = (*self._roles, "steps", *self.extras, *self._scalars, "kernel", *optional)

        def implementation(*values: Any) -> None:
            # The dispatcher leaves out arguments that equal the schema's defaults.
            given: dict[str, Any] = {**optional, **dict(zip(names, values, strict=False))}
            if given["numbers"] is not None:
                given |= zip(self.floats, given["numbers"].tolist(), strict=True)
            given["seed"] &= 2**64 - 1
            roles = {role: given[role] for role in self._roles if given[role] is not None}
            scalars = (*self._scalars, "clipped")
            hyper = self.hyper(**{name: given[name] for name in scalars})
            extras = {role: given[role] for role in self.extras if given[role] is not None}
            lists = TensorLists(roles, given["steps"], extras, given["tensor_numbers"])
            run(given["kernel"], lists, hyper)

        def fake(*_: Any) -> None:
            """Shapes and types stay as they are; nothing is returned."""

        qualified = f"accel::{self.name}_step"
        torch.library.define(qualified, self.schema())
        torch.library.impl(qualified, "CompositeExplicitAutograd")(implementation)
        # A kernel for "Meta" serves as the fake; register_fake looks for its caller's source first,
        # which costs every first load 2 ms.
        torch.library.impl(qualified, "Meta")(fake)


def gather(numbers: Sequence[Any]) -> torch.Tensor | None:
    """Return numbers as float64s on the host if one of them is only known at run time.

    ``None`` if all are constants, which are passed to the op as they are: a compiler makes a graph
    for each value of a float argument. A tensor's value is read when the graph runs.
    """
    if not any(isinstance(number, torch.Tensor) or _varies(number) for number in numbers):
        return None
    one = torch.ones((), dtype=torch.float64, device="cpu")
    # A product is the one operation on a varying float that every release can trace.
    return torch.stack(
        [
            number.detach().to("cpu", torch.float64).reshape(())
            if isinstance(number, torch.Tensor)
            else one * number
            for number in numbers
        ]
    )


def _varies(number: float) -> bool:
    """Return whether a compiler that is tracing treats a number as varying."""
    if not torch.compiler.is_compiling():
        return False
    if not _TELLS_NUMBERS:
        return True
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return not has_static_value(number)


def signed(bits: int) -> int:
    """Return 64 bits as a signed integer, as the dispatcher takes it."""
    return bits - 2**64 if bits >= 2**63 else bits
