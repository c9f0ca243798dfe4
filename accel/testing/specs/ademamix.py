"""AdEMAMix, by the formulas of Pagliardini et al. (2024) and the schedules of their code."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from accel.testing.spec import BadCall, Case, Lists, OpSpec
from accel.testing.specs.steps import (
    BAD_STEPS,
    normal,
    same_memory,
    set_number,
    state_factor,
    step_cases,
    step_tensors,
    whole_numbers,
)

_STATES = ("exp_avgs", "exp_avg_slows", "exp_avg_sqs")
_ORDER = ("lr", "beta1", "beta2", "beta3", "alpha", "eps", "step", "weight_decay",
          "alpha_warmup", "beta3_warmup")  # fmt: skip
_ROWS = (
    (1e-3, 0.9, 0.999, 0.9999, 5.0, 1e-8, 1, 0.01, 10, 20),
    (0.5, 0.0, 0.0, 0.9, 2.0, 1e-3, 7, 0.3, 0, 0),
    (1e-2, 0.95, 0.98, 0.9999, 8.0, 1e-6, 4000, 0.0, 10_000, 10_000),
    (1e-2, 0.9, 0.99, 0.999, 3.0, 1e-8, 30, 0.1, 30, 29),
    (0.0, 0.9, 0.99, 0.0, 0.0, 1e-8, 2, 0.1, 0, 3),
)


class FusedAdEMAMixSpec(OpSpec):
    """``multi_tensor_ademamix``."""

    op = "fused_ademamix"
    written = ("params", *_STATES)

    def cases(self) -> Iterable[Case]:
        """Return lists of every kind of shape, in every dtype, on all sides of the warm-ups."""
        rows = [dict(zip(_ORDER, row, strict=True)) for row in _ROWS]
        return step_cases([{}, {}], rows, _STATES)

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return parameters, gradients and moments of ordinary sizes."""
        given = step_tensors(case, generator)
        for name in _STATES[:2]:
            given[name] = [normal(shape, 0.1, generator) for shape in case["shapes"]]
        squares = [normal(shape, 0.1, generator).square() + 1e-3 for shape in case["shapes"]]
        return given | {"exp_avg_sqs": squares}

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return parameters and moments after the step."""
        return self._stepped(case, given, signs=True)

    def _stepped(self, case: Case, given: Lists, *, signs: bool) -> Lists:
        """Return the lists after the step, or the sums of the absolute values of their terms."""
        found: Lists = {name: [] for name in self.written}
        beta1, beta2, (alpha, beta3) = case["beta1"], case["beta2"], scheduled(case)
        first, second = 1 - beta1 ** case["step"], 1 - beta2 ** case["step"]
        for param, grad, fast, slow, square in zip(*given.values(), strict=True):
            new_fast = beta1 * fast + (1 - beta1) * grad
            new_slow = beta3 * slow + (1 - beta3) * grad
            new_square = beta2 * square + (1 - beta2) * grad.square()
            root = (new_square / second).sqrt() + case["eps"]
            update = (new_fast / first + alpha * new_slow) / root + case["weight_decay"] * param
            after = param - case["lr"] * update if signs else param + case["lr"] * update
            moved = zip(self.written, (after, new_fast, new_slow, new_square), strict=True)
            for name, value in moved:
                found[name].append(value)
        return found

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Step all tensors in one call."""
        lists = [tensors[name] for name in ("grads", "params", *_STATES)]
        op.multi_tensor_ademamix(1024, None, lists, *(case[name] for name in _ORDER))

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the sum of the absolute values of all terms, so that cancelling costs no bits.

        The rounding of moments with fewer bits than the parameter is included.
        """
        sizes = {one: [listed[at].abs()] for one, listed in given.items()}
        size = self._stepped(case, sizes, signs=False)[name][0]
        # The root is that of a sum of squares, so nothing cancels.
        return size * state_factor(case, name, "exp_avgs")

    def bad(self) -> Iterable[BadCall]:
        """Return wrong numbers, shapes, dtypes and memory."""
        return _BAD


def scheduled(case: Case) -> tuple[float, float]:
    """Return `alpha` and `beta3` at a step, as in the authors' code."""
    step, alpha, beta3 = case["step"], case["alpha"], case["beta3"]
    if step < case["alpha_warmup"]:
        alpha = step / case["alpha_warmup"] * alpha
    if step < case["beta3_warmup"]:
        done = step / case["beta3_warmup"]
        lives = [math.log(0.5) / math.log(beta + 1e-8) - 1 for beta in (case["beta1"], beta3)]
        beta3 = 0.5 ** (1 / ((1 - done) * lives[0] + done * lives[1] + 1))
    return alpha, beta3


_BAD = (
    *BAD_STEPS,
    BadCall("beta1 = 1", "beta1", set_number("beta1", 1.0)),
    BadCall("a negative beta2", "beta2", set_number("beta2", -0.1)),
    BadCall("beta3 = 1", "beta3", set_number("beta3", 1.0)),
    BadCall("an infinite alpha", "alpha", set_number("alpha", math.inf)),
    BadCall("a negative eps", "eps", set_number("eps", -1e-8)),
    BadCall("a negative warm-up", "alpha_warmup", set_number("alpha_warmup", -1)),
    BadCall("moments that share memory", "exp_avg", same_memory("exp_avgs", "exp_avg_slows")),
    BadCall("a moment of whole numbers", "exp_avg", whole_numbers("exp_avg_slows")),
)
