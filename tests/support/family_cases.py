"""Every optimizer op beside its float64 definition, for tests that treat them alike."""

from __future__ import annotations

import math
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
from accel.ops.optimizers.reference.adam8bit import ADAM8BIT_MAXIMIZE, Adam8bitHyper
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


def adam(p: Tensor, g: Tensor, m: Tensor, v: Tensor, h: Any) -> tuple[Tensor, ...]:
    if h.flags & ADAM_ADAMW:
        p = p * (1 - h.lr * h.weight_decay)
    else:
        g = g + h.weight_decay * p
    m, v = h.beta1 * m + (1 - h.beta1) * g, h.beta2 * v + (1 - h.beta2) * g * g
    c1, c2 = 1 - h.beta1**h.step, 1 - h.beta2**h.step
    return p - h.lr * (m / c1) / (v.sqrt() / math.sqrt(c2) + h.eps), m, v


def adagrad(p: Tensor, g: Tensor, total: Tensor, h: Any) -> tuple[Tensor, ...]:
    g = g + h.weight_decay * p
    total = total + g * g
    return p - h.lr / (1 + (h.step - 1) * h.lr_decay) * g / (total.sqrt() + h.eps), total


def lamb(p: Tensor, g: Tensor, m: Tensor, v: Tensor, h: Any) -> tuple[Tensor, ...]:
    m, v = h.beta1 * m + (1 - h.beta1) * g, h.beta2 * v + (1 - h.beta2) * g * g
    inside = h.flags & LAMB_EPS_INSIDE
    u = m / ((v + h.eps).sqrt() if inside else v.sqrt() + h.eps) + h.weight_decay * p
    rate = h.lr
    if h.flags & LAMB_BIAS_CORRECTION:
        rate *= math.sqrt(1 - h.beta2**h.step) / (1 - h.beta1**h.step)
    # A norm that is NaN is not 0: the ratio is NaN.
    if p.norm() != 0 and u.norm() != 0:
        rate *= min(max((p.norm() / u.norm()).item(), h.min_coeff), h.max_coeff)
    return p - rate * u, m, v


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
    flags = {name.removeprefix(f"{stem.upper()}_").lower(): f for name, f in flags_of(stem).items()}
    cases = [*spec.cases()]
    own = [name for name in family.floats if name not in COMMON]
    usual = {name: cases[0][name] for name in own if name in cases[0]}

    def exact(*values: Any) -> tuple[Tensor, ...]:
        *tensors, h = values
        numbers = {name: getattr(h, name) for name in (*family.floats, "step")}
        switches = {name: bool(h.flags & flag) for name, flag in flags.items()}
        lists = zip(("params", "grads", *family.states), ([one] for one in tensors), strict=True)
        found = spec.expected({**cases[0], **numbers, **switches}, dict(lists))
        return tuple(found[name][0] for name in ("params", *family.states))

    given = spec.given(cases[0], torch.Generator().manual_seed(0))
    signed = tuple(any(bool((one < 0).any()) for one in given[name]) for name in family.states)
    # In the spec's order.
    others = dict.fromkeys(tuple((n, case[n]) for n in (*own, "weight_decay")) for case in cases)
    return Case(
        find_builder(name_of(DECLARED[op.name]), cpu.__name__, "cpu"), op, exact,
        lambda **o: family.hyper(**{**COMMON, **usual, **o}),
        signed, tuple(map(dict, others)), flags["maximize"],
    )  # fmt: skip


CASES = {
    "adam": Case(
        cpu.FusedAdamBuilder, FusedAdam, adam,
        lambda **o: AdamHyper(**{**COMMON, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, **o}),
        (True, False), ({"flags": 2}, {"flags": 3}), ADAM_MAXIMIZE,
    ),
    "adagrad": Case(
        cpu.CPUAdagradBuilder, CPUAdagrad, adagrad,
        lambda **o: AdagradHyper(**{**COMMON, "eps": 1e-10, **o}),
        (False,), ({"lr_decay": 0.3}, {"weight_decay": 0.0}), ADAGRAD_MAXIMIZE,
    ),
    "lamb": Case(
        cpu.FusedLambBuilder, FusedLamb, lamb,
        lambda **o: LambHyper(**{**COMMON, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6,
                                 "max_coeff": 10.0, "min_coeff": 0.01,
                                 **o, "flags": PHASES | o.get("flags", 0)}),
        (True, False), ({"flags": LAMB_BIAS_CORRECTION}, {"flags": LAMB_EPS_INSIDE},
                        {"max_coeff": 0.02}), LAMB_MAXIMIZE,
    ),
    "adam8bit": Case(
        cpu.Adam8bitBuilder, Adam8bit, adam,
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
