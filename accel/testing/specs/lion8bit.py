"""Lion with an 8-bit moment: Lion's formulas, with the error bounds of `codes8bit`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from accel.testing.spec import BadCall, Case, Lists
from accel.testing.specs.coded import (
    code_error,
    coded_numbers,
    decode_into,
    encoded,
    offset_error,
)
from accel.testing.specs.lion import NUMBERS, LionSpec
from accel.testing.specs.steps import BAD_STEPS, set_number, step_cases

_MOMENTS = {"exp_avgs": True}
_BAD = (
    *BAD_STEPS,
    BadCall("beta1 = 1", "beta1", set_number("beta1", 1.0)),
    BadCall("a negative beta2", "beta2", set_number("beta2", -0.1)),
    BadCall("a negative seed", "seed", set_number("seed", -1)),
)


class Lion8bitSpec(LionSpec):
    """``multi_tensor_lion8bit`` between ``quantize_blockwise`` and ``dequantize_blockwise``.

    Moments are numbers that have a code, so that only the step rounds.
    """

    op = "lion8bit"

    def cases(self) -> Iterable[Case]:
        """Return lists of every kind of shape, in every dtype."""
        return step_cases(NUMBERS, [{}], [])

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return parameters, gradients and moments of ordinary sizes."""
        given = super().given(case, generator)
        return given | coded_numbers(given, _MOMENTS)

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the size of the terms, with the errors of the moment's codes.

        Where the error of the given moment decides the step's sign, both are right.
        """
        size = super().scale(case, given, expected, name, at)
        if not size.numel():
            return size
        mean, off = given["exp_avgs"][at], offset_error(given["exp_avgs"][at])
        if name == "exp_avgs":
            error = code_error(expected[name][at], True) + off
            return size + error / (self.slack * torch.finfo(torch.float32).eps)
        total = case["beta1"] * mean + (1 - case["beta1"]) * given["grads"][at]
        return torch.where(total.abs() <= case["beta1"] * off, torch.inf, size)

    def bad(self) -> Iterable[BadCall]:
        """Return wrong numbers and shapes."""
        return _BAD

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Encode the moments, step all tensors in one call, and decode them in place."""
        coded = encoded(op, tensors, _MOMENTS)
        pairs = coded["exp_avgs"]
        lists = [tensors["grads"], tensors["params"], *map(list, zip(*pairs, strict=True))]
        numbers = (case["lr"], case["beta1"], case["beta2"], case["step"], case["weight_decay"])
        op.multi_tensor_lion8bit(1024, None, lists, *numbers, case["seed"])
        decode_into(op, tensors, coded, _MOMENTS)
