"""What kernels for devices have to do, whichever language they are in: tests to inherit.

A subclass's module has a fixture `stepper`: a function of an optimizer's name that returns a
function which steps host tensors on the device and waits for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from family_cases import CASES, ELEMENTWISE, FAMILIES
from torch import Tensor

from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.reference.adam import (
    ADAM,
    ADAM_ADAMW,
    ADAM_AMSGRAD,
    ADAM_BIAS_CORRECTION,
    ADAM_MAXIMIZE,
    ADAM_ROLLBACK,
    AdamHyper,
)
from accel.ops.optimizers.reference.lion import LION

Step = Callable[[TensorLists, Any], None]
Stepper = Callable[[str], Step]

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
ADAMW = ADAM_ADAMW | ADAM_BIAS_CORRECTION


@dataclass(frozen=True)
class Subject:
    """An optimizer, with numbers to step by."""

    family: Family
    hyper: Hyper
    maximize: int


SUBJECTS = {
    "adam": Subject(
        ADAM,
        AdamHyper(lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1, step=3, flags=ADAMW),
        ADAM_MAXIMIZE,
    ),
}
SUBJECTS |= {
    stem: Subject(
        FAMILIES[stem], CASES[stem].hyper(**CASES[stem].options[0]), CASES[stem].skip_flag
    )
    for stem in ELEMENTWISE
    if stem not in SUBJECTS
}
every_subject = pytest.mark.parametrize("name", SUBJECTS)


def lists(
    name: str,
    *sizes: int,
    param: torch.dtype = torch.float32,
    grad: torch.dtype | None = None,
    state: torch.dtype = torch.float32,
    first: int = 0,
) -> TensorLists:
    """Return random tensors for a step, each `first` elements into memory of its own."""
    make = torch.Generator().manual_seed(0)
    family = SUBJECTS[name].family

    def tensors(kind: torch.dtype, positive: bool) -> list[Tensor]:
        wholes = [torch.randn(first + size + 8, generator=make) for size in sizes]
        chosen = [whole.abs() if positive else whole for whole in wholes]
        return [
            whole.to(kind)[first : first + size] for whole, size in zip(chosen, sizes, strict=True)
        ]

    roles = {"params": tensors(param, False), "grads": tensors(grad or param, False)}
    for role, signed in zip(family.states, CASES[name].signed, strict=True):
        roles[role] = tensors(state, not signed)
    return TensorLists(roles)


def copied(given: TensorLists, kind: torch.dtype | None = None) -> TensorLists:
    """Return a copy, in another element type if `kind` is one."""
    roles = {
        role: [tensor.clone() if kind is None else tensor.to(kind) for tensor in listed]
        for role, listed in given.roles.items()
    }
    steps = None if given.steps is None else [step.clone() for step in given.steps]
    return TensorLists(roles, steps)


def assert_close(ours: TensorLists, theirs: TensorLists, rtol: float, atol: float = 1e-7) -> None:
    for role, listed in theirs.roles.items():
        for index, expected in enumerate(listed):
            torch.testing.assert_close(
                ours.roles[role][index].to(expected.dtype), expected, rtol=rtol, atol=atol,
                equal_nan=True, msg=lambda text, at=f"{role}[{index}]": f"{at}: {text}",
            )  # fmt: skip
    if theirs.steps is not None:
        assert [*map(float, ours.steps or ())] == [*map(float, theirs.steps)]


def ulps(count: float, kind: torch.dtype) -> float:
    return count * torch.finfo(kind).eps


class DeviceChecks:
    """Attributes: `size` of a typical tensor, and `sizes` around what the kernels' blocks are.

    `exact`: steps have the bits of the reference if no number of theirs is on the device.
    """

    exact = False
    size = 2501
    sizes = (1, 3, 4, 5, 255, 1027, 4095, 4096, 4097)

    def _bounds(self, rtol: float) -> tuple[float, float]:
        """Return how far results may be from the reference's: relatively, and absolutely."""
        return (0.0, 0.0) if self.exact else (rtol, 1e-7)

    @every_subject
    def test_against_float64(self, stepper: Stepper, name: str) -> None:
        subject = SUBJECTS[name]
        given = lists(name, *self.sizes)
        expected = copied(given, torch.float64)
        subject.family.reference(expected, subject.hyper)
        stepper(name)(given, subject.hyper)
        assert_close(given, expected, rtol=2e-6, atol=2e-7)

    @pytest.mark.parametrize("counted", [False, True])
    @pytest.mark.parametrize(("eps", "moves"), [(1e-45, False), (1e-46, True), (0.0, True)])
    def test_the_smallest_eps(
        self, stepper: Stepper, eps: float, moves: bool, counted: bool
    ) -> None:
        """0 / 0 where float32 has no such eps, as in torch; a correction makes none of one."""
        given = TensorLists({role: [torch.zeros(9)] for role in ("params", "grads", *ADAM.states)})
        given.steps = [torch.zeros(())] if counted else None
        stepper("adam")(given, replace(SUBJECTS["adam"].hyper, eps=eps, step=1))
        assert given.params[0].isnan().all() == moves

    @every_subject
    def test_plain_adamw_without_correction(self, stepper: Stepper, name: str) -> None:
        subject = SUBJECTS[name]
        hyper = replace(subject.hyper, flags=subject.maximize)
        given = lists(name, self.size)
        expected = copied(given, torch.float64)
        subject.family.reference(expected, hyper)
        stepper(name)(given, hyper)
        assert_close(given, expected, rtol=2e-6, atol=2e-7)

    @pytest.mark.parametrize(
        ("param", "grad", "state"), [*itertools.product(FLOATS, FLOATS, FLOATS)]
    )
    def test_every_mixture_of_types(
        self, stepper: Stepper, param: torch.dtype, grad: torch.dtype, state: torch.dtype
    ) -> None:
        for name in SUBJECTS if param == state else ("adam",):
            subject = SUBJECTS[name]
            given = lists(name, self.size, param=param, grad=grad, state=state)
            expected = copied(given)
            subject.family.reference(expected, subject.hyper)
            stepper(name)(given, subject.hyper)
            for role, kind in (("params", param), (subject.family.states[0], state)):
                count = 4 if kind == torch.float32 else 1
                rtol, atol = self._bounds(ulps(count, kind))
                torch.testing.assert_close(
                    given.roles[role], expected.roles[role], rtol=rtol, atol=atol
                )

    @every_subject
    @pytest.mark.parametrize("option", ["grad_scale", "lr_tensor", "found_inf", "noop_flag"])
    def test_scalars_on_the_device(self, stepper: Stepper, name: str, option: str) -> None:
        subject = SUBJECTS[name]
        value = {
            "grad_scale": torch.tensor(65536.0),
            "lr_tensor": torch.tensor(0.03),
            "found_inf": torch.tensor(1.0),
            "noop_flag": torch.tensor([1], dtype=torch.int32),
        }[option]
        hyper = replace(subject.hyper, **{option: value})
        given = lists(name, self.size, 10)
        given.steps = [torch.tensor(4.0), torch.tensor(0.0)]
        before, expected = copied(given), copied(given)
        subject.family.reference(expected, hyper)
        stepper(name)(given, hyper)
        assert_close(given, expected, rtol=ulps(8, torch.float32))
        skipped = option in {"found_inf", "noop_flag"}
        assert torch.equal(given.params[0], before.params[0]) == skipped

    @every_subject
    def test_a_rate_on_the_device_and_a_step_on_the_host(self, stepper: Stepper, name: str) -> None:
        subject = SUBJECTS[name]
        hyper = replace(subject.hyper, lr_tensor=torch.tensor(0.03))
        given = lists(name, self.size)
        expected = copied(given)
        subject.family.reference(expected, hyper)
        stepper(name)(given, hyper)
        assert_close(given, expected, rtol=ulps(8, torch.float32))

    @every_subject
    def test_steps_of_each_tensor(self, stepper: Stepper, name: str) -> None:
        subject = SUBJECTS[name]
        given = lists(name, *[99] * 5)
        given.steps = [torch.tensor(float(n)) for n in (0, 1, 10, 1000, 1_000_000)]
        expected = copied(given)
        subject.family.reference(expected, subject.hyper)
        stepper(name)(given, subject.hyper)
        assert_close(given, expected, rtol=ulps(16, torch.float32))

    @every_subject
    def test_masters(self, stepper: Stepper, name: str) -> None:
        subject = SUBJECTS[name]
        given = lists(name, self.size, param=torch.bfloat16)
        given.roles["masters"] = [torch.randn(self.size)]
        expected = copied(given)
        subject.family.reference(expected, subject.hyper)
        stepper(name)(given, subject.hyper)
        for role, kind in (("masters", torch.float32), ("params", torch.bfloat16)):
            rtol, atol = self._bounds(ulps(4, kind))
            torch.testing.assert_close(
                given.roles[role], expected.roles[role], rtol=rtol, atol=atol
            )

    @every_subject
    def test_many_tensors_of_many_sizes(self, stepper: Stepper, name: str) -> None:
        subject = SUBJECTS[name]
        sizes = [1, 4096, 4097, 9000, 3, 2, *range(30, 47), 1600, 12]
        given = lists(name, *sizes)
        given.steps = [torch.tensor(float(n)) for n in range(len(sizes))]
        expected = copied(given)
        subject.family.reference(expected, subject.hyper)
        stepper(name)(given, subject.hyper)
        assert_close(given, expected, rtol=ulps(8, torch.float32))

    @pytest.mark.parametrize("kind", FLOATS)
    @pytest.mark.parametrize("first", [1, 2, 8])
    def test_misaligned_tensors_and_their_neighbours(
        self, stepper: Stepper, kind: torch.dtype, first: int
    ) -> None:
        subject = SUBJECTS["adam"]
        given = lists("adam", self.size, param=kind, state=kind, first=first)
        before = [whole_of(listed[0]).clone() for listed in given.roles.values()]
        expected = copied(given)
        subject.family.reference(expected, subject.hyper)
        stepper("adam")(given, subject.hyper)
        assert_close(given, expected, *self._bounds(ulps(4 if kind == torch.float32 else 1, kind)))
        for listed, old in zip(given.roles.values(), before, strict=True):
            whole = whole_of(listed[0])
            assert torch.equal(whole[:first], old[:first])
            assert torch.equal(whole[first + self.size :], old[first + self.size :])

    def test_amsgrad_with_nan_and_infinity(self, stepper: Stepper) -> None:
        hyper = replace(SUBJECTS["adam"].hyper, flags=ADAMW | ADAM_AMSGRAD)
        given = lists("adam", 640)
        given.roles["max_exp_avg_sqs"] = [torch.rand(640) * 2]
        given.grads[0][3:6] = torch.tensor([float("nan"), float("inf"), float("-inf")])
        given.params[0][9], given.roles["exp_avg_sqs"][0][11] = float("inf"), float("nan")
        given.roles["max_exp_avg_sqs"][0][13] = float("nan")
        expected = copied(given)
        ADAM.reference(expected, hyper)
        stepper("adam")(given, hyper)
        assert_close(given, expected, *self._bounds(ulps(8, torch.float32)))

    @pytest.mark.parametrize("beta1", [0.0, 0.3, 0.5])
    def test_small_first_beta(self, stepper: Stepper, beta1: float) -> None:
        hyper = replace(SUBJECTS["adam"].hyper, beta1=beta1)
        given = lists("adam", 640)
        expected = copied(given)
        ADAM.reference(expected, hyper)
        stepper("adam")(given, hyper)
        assert_close(given, expected, *self._bounds(ulps(8, torch.float32)))

    @pytest.mark.parametrize("mode", [0, ADAM_ADAMW])
    def test_rollback(self, stepper: Stepper, mode: int) -> None:
        hyper = replace(SUBJECTS["adam"].hyper, flags=mode | ADAM_ROLLBACK)
        given = lists("adam", 640)
        given.steps = [torch.tensor(3.0)]
        expected = copied(given)
        ADAM.reference(expected, hyper)
        stepper("adam")(given, hyper)
        assert_close(given, expected, rtol=ulps(16, torch.float32), atol=1e-6)

    @pytest.mark.parametrize("value", [float("nan"), 0.0])
    def test_direction_of_nothing(self, stepper: Stepper, value: float) -> None:
        given = lists("lion", 64)
        given.grads[0].fill_(value)
        given.roles["exp_avgs"][0].zero_()
        expected = copied(given)
        LION.reference(expected, SUBJECTS["lion"].hyper)
        stepper("lion")(given, SUBJECTS["lion"].hyper)
        assert_close(given, expected, *self._bounds(ulps(4, torch.float32)))

    @pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
    def test_every_16_bit_value_survives(self, stepper: Stepper, kind: torch.dtype) -> None:
        values = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(kind)
        zeros = {role: [torch.zeros(values.numel())] for role in ("grads", *LION.states)}
        given = TensorLists({"params": [values.clone()], **zeros})
        stepper("lion")(given, replace(SUBJECTS["lion"].hyper, lr=0.0))
        (ours,) = given.params
        number = ~values.isnan()
        assert torch.equal(ours[number].view(torch.int16), values[number].view(torch.int16))
        assert ours[~number].isnan().all()

    @every_subject
    @pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
    @pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("steps", [None, (6.0, 40.0)], ids=["given", "counted"])
    def test_rounding_has_the_bits_of_the_reference(
        self,
        stepper: Stepper,
        name: str,
        kind: torch.dtype,
        rounding: str,
        steps: tuple[float, ...] | None,
    ) -> None:
        # A learning rate of 0 leaves the masters, so that only the rounding is compared.
        make = torch.Generator().manual_seed(1)
        scale = 10.0 ** torch.empty(5001).uniform_(-9, 4, generator=make)
        subject = SUBJECTS[name]
        given = lists(name, 5001, 77, param=kind)
        given.roles["masters"] = [
            torch.randn(5001, generator=make) * scale,
            torch.randn(77, generator=make),
        ]
        given.steps = steps and [*map(torch.tensor, steps)]
        hyper = replace(subject.hyper, lr=0.0, rounding=rounding, seed=0xF234_5678_9ABC_DEF0)
        expected = copied(given)
        subject.family.reference(expected, hyper)
        stepper(name)(given, hyper)
        for ours, theirs in zip(given.params, expected.params, strict=True):
            assert torch.equal(ours.view(torch.int16), theirs.view(torch.int16))


def whole_of(part: Tensor) -> Tensor:
    """Return the memory that a tensor is part of."""
    size = part.untyped_storage().nbytes() // part.element_size()
    return part.as_strided((size,), (1,), 0)
