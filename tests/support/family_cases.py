"""Every optimizer op beside its float64 definition, for tests that treat them alike."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from accel import optim
from accel.builders import cpu
from accel.builders.convention import DECLARED, HOST, name_of, optimizers
from accel.builders.lookup import find_builder
from accel.ops import abi
from accel.ops.optimizers.adagrad import CPUAdagrad
from accel.ops.optimizers.adam import FusedAdam
from accel.ops.optimizers.adam8bit import Adam8bit
from accel.ops.optimizers.codes8bit import decode, encode, memory_order
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lamb import FusedLamb
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adagrad import ADAGRAD_MAXIMIZE, AdagradHyper
from accel.ops.optimizers.reference.adam import ADAM_ADAMW, ADAM_MAXIMIZE, AdamHyper
from accel.ops.optimizers.reference.adam8bit import (
    ADAM8BIT_ADAMW,
    ADAM8BIT_MAXIMIZE,
    Adam8bitHyper,
)
from accel.ops.optimizers.reference.lamb import (
    LAMB_BIAS_CORRECTION,
    LAMB_EPS_INSIDE,
    LAMB_MAXIMIZE,
    PHASES,
    LambHyper,
)
from accel.targets import resolve
from accel.testing.specs import SPECS

LEVELS = ("baseline", "neon") if platform.machine() == "aarch64" else abi.SIMD_LEVELS[:3]
# Before 2.7 torch cannot make a function of an op that writes lists of tensors.
compiles = pytest.mark.skipif(torch.__version__ < (2, 7), reason="torch.compile needs torch 2.7")
OPTIMIZERS: tuple[Any, ...] = tuple(
    found for name in optim.__all__ if isinstance(found := getattr(optim, name), type)
)
"""Every optimizer class."""

CODED = tuple(cls for cls in OPTIMIZERS if cls.family is not None and cls.family.coded)
"""Those whose states are 8-bit codes."""

OPS: dict[str, Any] = {
    stem: resolve(DECLARED[op]) for op, stem in optimizers().items() if not op.startswith(HOST)
}
"""Every optimizer's op over lists of tensors, by the stem of its files."""

FAMILIES: dict[str, Family] = {stem: op.family for stem, op in OPS.items()}
"""Every optimizer, by the stem of its files."""

ELEMENTWISE = [stem for stem, family in FAMILIES.items() if not family.extras]
"""Optimizers that step each element by itself."""


def flags_of(stem: str) -> dict[str, int]:
    """Return an optimizer's flags, which stand in the module of its numbers, by name."""
    home = vars(sys.modules[FAMILIES[stem].hyper.__module__])
    return {name: home[name] for name in home if name.startswith(f"{stem.upper()}_")}


COMMON = {"lr": 1e-2, "weight_decay": 0.1, "step": 3}


SPEC_NUMBERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "adam": lambda h: {"mode": int(bool(h.flags & ADAM_ADAMW))},
    "adam8bit": lambda h: {"mode": int(bool(h.flags & ADAM8BIT_ADAMW))},
    "adagrad": lambda h: {"lr": h.lr / (1 + (h.step - 1) * h.lr_decay)},
    "lamb": lambda h: {"mode": int(not h.flags & LAMB_EPS_INSIDE), "grad_scale": 1.0},
}
"""What the spec of an optimizer takes and its struct has in another form."""


def exact_of(stem: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return an optimizer's definition, its conformance spec's, as a function of one tensor's step.

    It takes parameter, gradient and states in float64, and the step's numbers; it returns parameter
    and states.
    """
    op, family = OPS[stem], FAMILIES[stem]
    spec = resolve(SPECS[op.name])()
    first = next(iter(spec.cases()))
    flags = {name.removeprefix(f"{stem.upper()}_").lower(): f for name, f in flags_of(stem).items()}
    own = SPEC_NUMBERS.get(stem, lambda _: {})
    # Specs have a step's tensors first, in the family's order, by names of their own.
    outputs = spec.written[: 1 + len(family.states)]
    others = spec.written[len(outputs) :]

    def exact(*values: Any) -> tuple[Tensor, ...]:
        *tensors, h = values
        numbers = {name: getattr(h, name) for name in (*family.floats, "step")}
        switches = {name: bool(h.flags & flag) for name, flag in flags.items()}
        names = ("params", "grads", *outputs[1:], *others)
        lists = ([one] for one in (*tensors, *(torch.zeros(1).double() for _ in others)))
        case = {**first, **numbers, **switches, **own(h)}
        found = spec.expected(case, dict(zip(names, lists, strict=True)))
        return tuple(found[name][0] for name in outputs)

    return exact


def as_many(betas: Any, group: dict[str, Any]) -> Any:
    """Return decay rates, as many as a group of an optimizer has: the last one stands for more."""
    count = len(group["betas"])
    return type(betas)([*betas, *[betas[-1]] * count][:count])


@dataclass
class Case:
    """One optimizer op: how to load it, what it takes, what it must give."""

    builder: type
    reference: type
    exact: Callable[..., tuple[Tensor, ...]]
    hyper: Callable[..., Any]
    signed: tuple[bool, ...]
    options: tuple[dict[str, Any], ...]
    skip_flag: int

    def lists(
        self,
        shapes: list[tuple[int, ...]],
        dtype: torch.dtype = torch.float32,
        grad: torch.dtype | None = None,
        state: torch.dtype = torch.float32,
        *,
        steps: float | None = None,
        masters: bool = False,
        seed: int = 0,
    ) -> TensorLists:
        """Return random inputs, the same for the same arguments."""
        make = torch.Generator().manual_seed(seed)

        def random(shape: tuple[int, ...], kind: torch.dtype, signed: bool = True) -> Tensor:
            values = torch.randn(shape, generator=make) * torch.rand(shape, generator=make) ** 3
            return (values if signed else values.square()).to(kind)

        family = self.reference.family
        roles = {
            "params": [random(shape, dtype) for shape in shapes],
            "grads": [random(shape, grad or dtype) for shape in shapes],
        }
        extras: dict[str, list[Tensor]] = {}
        for role, signed in zip(family.states, self.signed, strict=True):
            values = [random(shape, torch.float32, signed) for shape in shapes]
            if family.coded:
                coded = [encode(value.reshape(-1), signed=signed) for value in values]
                codes = [code for code, _ in coded]
                roles[role] = [c.view(shape) for c, shape in zip(codes, shapes, strict=True)]
                extras[f"{role[:-1]}_scales"] = [scale for _, scale in coded]
            else:
                roles[role] = [value.to(state) for value in values]
        if masters:
            roles["masters"] = [param.float() for param in roles["params"]]
        if family.name == "lamb":
            extras["norms"] = [torch.zeros(2, dtype=torch.float64) for _ in shapes]
            extras["coeffs"] = [torch.zeros(()) for _ in shapes]
        counters = None if steps is None else [torch.tensor(steps) for _ in shapes]
        return TensorLists(roles, counters, extras)

    def expected(self, lists: TensorLists, index: int, hyper: Any) -> tuple[Tensor, ...]:
        """Return parameter and states after the step, in float64."""
        roles = lists.roles
        names = self.reference.family.states
        states = [roles[name][index] for name in names]
        if self.reference.family.coded:
            scales = [lists.extras[f"{name[:-1]}_scales"][index] for name in names]
            states = [
                decode(memory_order(code), scale, signed=signed).view(code.shape)
                for code, scale, signed in zip(states, scales, self.signed, strict=True)
            ]
        main = roles.get("masters", roles["params"])[index]
        inputs = (tensor.double() for tensor in (main, roles["grads"][index], *states))
        return self.exact(*inputs, hyper)


def _of_spec(stem: str) -> Case:
    """Return an optimizer's case as its conformance spec has it; all its states are floats."""
    op, family = OPS[stem], FAMILIES[stem]
    spec = resolve(SPECS[op.name])()
    maximize = flags_of(stem)[f"{stem.upper()}_MAXIMIZE"]
    cases = [*spec.cases()]
    own = [name for name in family.floats if name not in COMMON]
    usual = {name: cases[0][name] for name in own if name in cases[0]}

    given = spec.given(cases[0], torch.Generator().manual_seed(0))
    signed = tuple(any(bool((one < 0).any()) for one in given[name]) for name in family.states)
    # In the spec's order.
    others = dict.fromkeys(tuple((n, case[n]) for n in (*own, "weight_decay")) for case in cases)
    return Case(
        find_builder(name_of(DECLARED[op.name]), cpu.__name__, "cpu"), op, exact_of(stem),
        lambda **o: family.hyper(**{**COMMON, **usual, **o}),
        signed, tuple(map(dict, others)), maximize,
    )  # fmt: skip


CASES = {
    "adam": Case(
        cpu.FusedAdamBuilder, FusedAdam, exact_of("adam"),
        lambda **o: AdamHyper(**{**COMMON, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, **o}),
        (True, False), ({"flags": 2}, {"flags": 3}), ADAM_MAXIMIZE,
    ),
    "adagrad": Case(
        cpu.CPUAdagradBuilder, CPUAdagrad, exact_of("adagrad"),
        lambda **o: AdagradHyper(**{**COMMON, "eps": 1e-10, **o}),
        (False,), ({"lr_decay": 0.3}, {"weight_decay": 0.0}), ADAGRAD_MAXIMIZE,
    ),
    "lamb": Case(
        cpu.FusedLambBuilder, FusedLamb, exact_of("lamb"),
        lambda **o: LambHyper(**{**COMMON, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6,
                                 "max_coeff": 10.0, "min_coeff": 0.01,
                                 **o, "flags": PHASES | o.get("flags", 0)}),
        (True, False), ({"flags": LAMB_BIAS_CORRECTION}, {"flags": LAMB_EPS_INSIDE},
                        {"max_coeff": 0.02}), LAMB_MAXIMIZE,
    ),
    "adam8bit": Case(
        cpu.Adam8bitBuilder, Adam8bit, exact_of("adam8bit"),
        lambda **o: Adam8bitHyper(**{**COMMON, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
                                     "seed": 5, **o}),
        (True, False), ({"flags": 2}, {"flags": 3}), ADAM8BIT_MAXIMIZE,
    ),
}  # fmt: skip
CASES |= {stem: _of_spec(stem) for stem in OPS if stem not in CASES}
"""Every optimizer by the stem of its files; those that need no more follow from their specs."""


def tensors_of(lists: TensorLists) -> list[Tensor]:
    """Return everything that a step may write."""
    written = [tensor for listed in lists.written().values() for tensor in listed]
    return [*written, *(lists.steps or ())]


SHAPES = [(0,), (1,), (17,), (255,), (256,), (257, 3), (40_000,), ()]


def assert_like_the_reference(case: Case, native: Any, **options: Any) -> None:
    hyper = case.hyper(**options.pop("hyper", {}))
    ours, theirs = (case.lists(SHAPES, **options) for _ in range(2))
    native.kernel.run(ours, hyper)
    case.reference().kernel.run(theirs, hyper)
    for left, right in zip(tensors_of(ours), tensors_of(theirs), strict=True):
        if case is CASES["lamb"]:
            # The sums of squares are added up in another order.
            torch.testing.assert_close(left, right, rtol=1e-2 if left.element_size() == 2 else 2e-6,
                                       atol=1e-7)  # fmt: skip
        else:
            assert torch.equal(left, right)
