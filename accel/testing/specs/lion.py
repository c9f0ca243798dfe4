"""Lion, by the formulas of Chen et al. (2023)."""

from __future__ import annotations

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
    undecided,
    whole_numbers,
)

NUMBERS: tuple[dict[str, float], ...] = (
    {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.01, "step": 1},
    {"lr": 0.5, "beta1": 0.0, "beta2": 0.0, "weight_decay": 0.3, "step": 7},
    {"lr": 1e-2, "beta1": 0.95, "beta2": 0.98, "weight_decay": 0.0, "step": 4000},
    {"lr": 0.0, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "step": 2},
)
_BAD = (
    *BAD_STEPS,
    BadCall("beta1 = 1", "beta1", set_number("beta1", 1.0)),
    BadCall("a negative beta2", "beta2", set_number("beta2", -0.1)),
    BadCall("a moment that is the parameter", "exp_avg", same_memory("exp_avgs", "params")),
    BadCall("a moment of whole numbers", "exp_avg", whole_numbers("exp_avgs")),
)


class LionSpec(OpSpec):
    """The common spec of all surfaces."""

    written = ("params", "exp_avgs")

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return parameters, gradients and moments of ordinary sizes."""
        moments = [normal(shape, 0.1, generator) for shape in case["shapes"]]
        return step_tensors(case, generator) | {"exp_avgs": moments}

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return parameters and moments after the step."""
        beta1, beta2, lr, decay = (case[one] for one in ("beta1", "beta2", "lr", "weight_decay"))
        found: Lists = {"params": [], "exp_avgs": []}
        for param, grad, mean in zip(*given.values(), strict=True):
            update = (beta1 * mean + (1 - beta1) * grad).sign()
            found["params"].append(param - lr * (update + decay * param))
            found["exp_avgs"].append(beta2 * mean + (1 - beta2) * grad)
        return found

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Allow both directions of the step if its sign depends on the last bits."""
        param, grad, mean = (given[one][at] for one in given)
        if name == "exp_avgs":
            kept: Tensor = case["beta2"] * mean.abs() + (1 - case["beta2"]) * grad.abs()
            return kept
        terms = (case["beta1"] * mean, (1 - case["beta1"]) * grad)
        open_sign = undecided(terms[0] + terms[1], terms[0].abs() + terms[1].abs())
        size = param.abs() + case["lr"] * (1 + case["weight_decay"] * param.abs())
        return torch.where(open_sign, torch.inf, size) * state_factor(case, name, "params")

    def bad(self) -> Iterable[BadCall]:
        """Return wrong numbers, shapes, dtypes and memory."""
        return _BAD


class FusedLionSpec(LionSpec):
    """``multi_tensor_lion``."""

    op = "fused_lion"

    def cases(self) -> Iterable[Case]:
        """Return lists of every kind of shape, in every dtype."""
        return step_cases(NUMBERS, [{}], ["exp_avgs"])

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Step all tensors in one call."""
        lists = [tensors[name] for name in ("grads", "params", "exp_avgs")]
        numbers = (case["lr"], case["beta1"], case["beta2"], case["step"], case["weight_decay"])
        op.multi_tensor_lion(1024, None, lists, *numbers)


class CPULionSpec(LionSpec):
    """``create_lion``, ``lion_update`` and ``destroy_lion``."""

    op = "cpu_lion"
    on_host = True

    def cases(self) -> Iterable[Case]:
        """Return the cases of one tensor."""
        return step_cases(NUMBERS, [{}], ["exp_avgs"], single=True)

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Step one tensor with an optimizer made for it."""
        numbers = [case[name] for name in ("lr", "beta1", "beta2", "weight_decay")]
        op.create_lion(4712, 1e-4, 0.9, 0.99, 0.0, False)
        try:
            lists = (tensors[name][0] for name in ("params", "grads", "exp_avgs"))
            op.lion_update(4712, case["step"], *numbers, *lists)
        finally:
            op.destroy_lion(4712)
