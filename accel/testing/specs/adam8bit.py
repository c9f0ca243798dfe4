"""Adam with 8-bit moments: Adam's formulas, with the error bounds of `codes8bit`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from accel.testing.spec import BadCall, Case, Lists
from accel.testing.specs.adam import AdamSpec, adam_cases, adam_corrections
from accel.testing.specs.coded import (
    code_error,
    coded_numbers,
    decode_into,
    encoded,
    offset_error,
)
from accel.testing.specs.steps import BAD_STEPS, set_number

_MOMENTS = {"exp_avgs": True, "exp_avg_sqs": False}
"""The lists of moments, and whether their code is signed."""

_BAD = (
    *BAD_STEPS,
    BadCall("beta1 = 1", "beta1", set_number("beta1", 1.0)),
    BadCall("a negative beta2", "beta2", set_number("beta2", -0.1)),
    BadCall("a negative eps", "eps", set_number("eps", -1e-8)),
    BadCall("a negative seed", "seed", set_number("seed", -1)),
)


class Adam8bitSpec(AdamSpec):
    """``multi_tensor_adam8bit`` between ``quantize_blockwise`` and ``dequantize_blockwise``.

    Moments are numbers that have a code, so that only the step rounds. The parameter moves by
    moments that are not yet encoded, and is judged as Adam's.
    """

    op = "adam8bit"

    def cases(self) -> Iterable[Case]:
        """Return lists of every kind of shape, in every dtype and mode."""
        return adam_cases((), single=False)

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return parameters, gradients and moments of ordinary sizes."""
        given = super().given(case, generator)
        return given | coded_numbers(given, _MOMENTS)

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the size of the terms, with the error of the moments' codes.

        A code's error is less than 1/8 of the value, or the smallest number of the block. A first
        moment that is exact in one block is off by the difference of the offsets in another.
        """
        size = super().scale(case, given, expected, name, at)
        if not size.numel():
            return size
        off = offset_error(given["exp_avgs"][at])
        if name in _MOMENTS:
            error = code_error(expected[name][at], _MOMENTS[name])
            error = error + off if name == "exp_avgs" else error
        else:
            first, second = adam_corrections(case)
            root = (expected["exp_avg_sqs"][at] / second).sqrt()
            error = case["lr"] * off / first / (root + case["eps"])
        return size + error / (self.slack * torch.finfo(torch.float32).eps)

    def bad(self) -> Iterable[BadCall]:
        """Return wrong numbers and shapes."""
        return _BAD

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Encode the moments, step all tensors in one call, and decode them in place."""
        coded = encoded(op, tensors, _MOMENTS)
        lists = [tensors["grads"], tensors["params"]]
        for pairs in coded.values():
            lists += [[codes for codes, _ in pairs], [scales for _, scales in pairs]]
        names = ("lr", "beta1", "beta2", "eps", "step", "mode", "bias_correction", "weight_decay")
        op.multi_tensor_adam8bit(1024, None, lists, *(case[name] for name in names), case["seed"])
        decode_into(op, tensors, coded, _MOMENTS)
