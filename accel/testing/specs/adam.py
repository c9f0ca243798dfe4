"""Adam and AdamW, by the formulas of Kingma and Ba (2015) and Loshchilov and Hutter (2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
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

_STATES = ("exp_avgs", "exp_avg_sqs")
_NUMBERS: tuple[dict[str, float], ...] = (
    {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "step": 1},
    {"lr": 0.5, "beta1": 0.0, "beta2": 0.0, "eps": 1e-3, "weight_decay": 0.3, "step": 7},
    {"lr": 1e-2, "beta1": 0.95, "beta2": 0.98, "eps": 1e-6, "weight_decay": 0.0, "step": 4000},
    {"lr": 0.0, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "step": 2},
)


def adam_cases(states: Sequence[str] = _STATES, *, single: bool) -> Iterable[dict[str, Any]]:
    """Return every shape with every dtype and mode, the numbers taken in turn."""
    modes = [
        {"mode": mode, "bias_correction": corrected}
        for mode, corrected in product((0, 1), (True, False))
    ]
    return step_cases(modes, _NUMBERS, states, single=single)


def adam_corrections(case: Case) -> tuple[float, float]:
    """Return the divisors of the moments for their start at zero."""
    if not case["bias_correction"]:
        return 1.0, 1.0
    return 1 - case["beta1"] ** case["step"], 1 - case["beta2"] ** case["step"]


_BAD = (
    *BAD_STEPS,
    BadCall("beta1 = 1", "beta1", set_number("beta1", 1.0)),
    BadCall("a negative beta2", "beta2", set_number("beta2", -0.1)),
    BadCall("a negative eps", "eps", set_number("eps", -1e-8)),
    BadCall("moments that share memory", "exp_avg", same_memory("exp_avgs", "exp_avg_sqs")),
    BadCall("a moment of whole numbers", "exp_avg", whole_numbers("exp_avgs")),
)


class AdamSpec(OpSpec):
    """The common spec of all surfaces."""

    written = ("params", "exp_avgs", "exp_avg_sqs")

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return parameters, gradients and moments of ordinary sizes."""
        given = step_tensors(case, generator)
        return given | {
            "exp_avgs": [normal(shape, 0.1, generator) for shape in case["shapes"]],
            "exp_avg_sqs": [
                normal(shape, 0.1, generator).square() + 1e-3 for shape in case["shapes"]
            ],
        }

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return parameters and moments after the step."""
        beta1, beta2, lr = case["beta1"], case["beta2"], case["lr"]
        first, second = adam_corrections(case)
        found: Lists = {"params": [], "exp_avgs": [], "exp_avg_sqs": []}
        for param, grad, old_mean, old_square in zip(*given.values(), strict=True):
            gradient = grad + case["weight_decay"] * param if case["mode"] == 0 else grad
            mean = beta1 * old_mean + (1 - beta1) * gradient
            square = beta2 * old_square + (1 - beta2) * gradient.square()
            update = (mean / first) / ((square / second).sqrt() + case["eps"])
            if case["mode"] == 1:
                update = update + case["weight_decay"] * param
            found["params"].append(param - lr * update)
            found["exp_avgs"].append(mean)
            found["exp_avg_sqs"].append(square)
        return found

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the sum of the absolute values of all terms, so that cancelling costs no bits.

        The rounding of moments with fewer bits than the result is included.
        """
        coarser = state_factor(case, name, "exp_avgs")
        beta1, beta2, decay = case["beta1"], case["beta2"], case["weight_decay"]
        param, grad, mean, square = (given[one][at].abs() for one in given)
        gradient = grad + decay * param if case["mode"] == 0 else grad
        means = beta1 * mean + (1 - beta1) * gradient
        squares = beta2 * square + (1 - beta2) * gradient.square()
        if name != "params":
            moments: dict[str, Tensor] = {"exp_avgs": means, "exp_avg_sqs": squares}
            return moments[name] * coarser
        first, second = adam_corrections(case)
        exact = expected["exp_avg_sqs"][at]
        root = (exact / second).sqrt() + case["eps"]
        uncertain = 1 + squares / exact.clamp_min(torch.finfo(torch.float32).tiny)
        step: Tensor = means / first / root * uncertain + decay * param
        whole: Tensor = (param + step * case["lr"]) * coarser
        return whole

    def bad(self) -> Iterable[BadCall]:
        """Return wrong numbers, shapes, dtypes and memory."""
        return _BAD


class FusedAdamSpec(AdamSpec):
    """``multi_tensor_adam``."""

    op = "fused_adam"

    def cases(self) -> Iterable[Case]:
        """Return lists of every kind of shape, in every dtype and mode."""
        return adam_cases(single=False)

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Step all tensors in one call."""
        order = ("grads", "params", "exp_avgs", "exp_avg_sqs")
        op.multi_tensor_adam(
            1024,
            None,
            [tensors[name] for name in order],
            case["lr"],
            case["beta1"],
            case["beta2"],
            case["eps"],
            int(case["step"]),
            case["mode"],
            case["bias_correction"],
            case["weight_decay"],
        )


class CPUAdamSpec(AdamSpec):
    """``create_adam``, ``adam_update`` and ``destroy_adam``."""

    op = "cpu_adam"
    on_host = True

    def cases(self) -> Iterable[Case]:
        """Return the cases of one tensor."""
        return adam_cases(single=True)

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Step one tensor with an optimizer made for it."""
        numbers = [case[name] for name in ("lr", "beta1", "beta2", "eps", "weight_decay")]
        fixed = (1e-3, 0.9, 0.999, 1e-8, 0.0, case["mode"] == 1, False)
        op.create_adam(4711, *fixed)
        try:
            op.adam_update(
                4711,
                int(case["step"]),
                *numbers,
                case["bias_correction"],
                *(tensors[name][0] for name in ("params", "grads", "exp_avgs", "exp_avg_sqs")),
            )
        finally:
            op.destroy_adam(4711)
