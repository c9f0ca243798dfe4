"""Adam with 8-bit moments: Adam's formulas, with the error bounds of `codes8bit`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from accel.ops.optimizers.codes8bit import decode, encode
from accel.testing.spec import BadCall, Case, Lists
from accel.testing.specs.adam import AdamSpec, adam_cases, adam_corrections
from accel.testing.specs.steps import BAD_STEPS, set_number

_MOMENTS = {"exp_avgs": True, "exp_avg_sqs": False}
"""The lists of moments, and whether their code is signed."""

_OFFSET = 2.0**-15
"""The offset between a block's scale and the largest number of codes of first moments."""

_SMALLEST = {"exp_avgs": _OFFSET, "exp_avg_sqs": 2.0**-31}
"""The error below the smallest ordinary number, as a part of the block's scale."""

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
        return given | {name: [_coded(one, name) for one in given[name]] for name in _MOMENTS}

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the size of the terms, with the error of the moments' codes.

        A code's error is less than 1/8 of the value, or the smallest number of the block. A first
        moment that is exact in one block is off by the difference of the offsets in another.
        """
        size = super().scale(case, given, expected, name, at)
        if not size.numel():
            return size
        # A block's scale is less than twice its largest magnitude.
        off = _OFFSET * 2.0 * given["exp_avgs"][at].abs().max()
        if name in _MOMENTS:
            smallest = _SMALLEST[name] * 2.0 * expected[name][at].abs().max()
            error = expected[name][at].abs() / 8.0 + smallest
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
        coded = {
            name: [op.quantize_blockwise(one, signed) for one in tensors[name]]
            for name, signed in _MOMENTS.items()
        }
        lists = [tensors["grads"], tensors["params"]]
        for pairs in coded.values():
            lists += [[codes for codes, _ in pairs], [scales for _, scales in pairs]]
        names = ("lr", "beta1", "beta2", "eps", "step", "mode", "bias_correction", "weight_decay")
        op.multi_tensor_adam8bit(1024, None, lists, *(case[name] for name in names), case["seed"])
        for name, signed in _MOMENTS.items():
            for moment, (codes, scales) in zip(tensors[name], coded[name], strict=True):
                moment.copy_(op.dequantize_blockwise(codes, scales, signed))


def _coded(values: Tensor, name: str) -> Tensor:
    """Return numbers that have a code, at least for blocks in this order."""
    signed = _MOMENTS[name]
    coded = encode(values.float().reshape(-1), signed=signed)
    return decode(*coded, signed=signed).view(values.shape).to(values.dtype)
