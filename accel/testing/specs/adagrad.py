"""Adagrad, by the formulas of Duchi, Hazan and Singer (2011), with L2 weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
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

_NUMBERS: tuple[dict[str, float], ...] = (
    {"lr": 1e-2, "eps": 1e-8, "weight_decay": 0.01, "step": 1},
    {"lr": 0.5, "eps": 1e-3, "weight_decay": 0.3, "step": 7},
    {"lr": 1e-3, "eps": 1e-10, "weight_decay": 0.0, "step": 4000},
    {"lr": 0.0, "eps": 1e-8, "weight_decay": 0.1, "step": 2},
)
_BAD = (
    *BAD_STEPS,
    BadCall("a negative eps", "eps", set_number("eps", -1e-8)),
    BadCall("a sum that is the parameter", "exp_avg_sq", same_memory("exp_avg_sqs", "params")),
    BadCall("a sum of whole numbers", "exp_avg_sq", whole_numbers("exp_avg_sqs")),
)


class _AdagradSpec(OpSpec):
    """The common spec of both surfaces."""

    written = ("params", "exp_avg_sqs")

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return parameters, gradients and sums of squares of ordinary sizes."""
        sums = [normal(shape, 0.5, generator).square() + 1e-3 for shape in case["shapes"]]
        return step_tensors(case, generator) | {"exp_avg_sqs": sums}

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return parameters and sums after the step."""
        found: Lists = {"params": [], "exp_avg_sqs": []}
        for param, grad, old_sum in zip(*given.values(), strict=True):
            gradient = grad + case["weight_decay"] * param
            squares = old_sum + gradient.square()
            step = gradient / (squares.sqrt() + case["eps"])
            found["params"].append(param - case["lr"] * step)
            found["exp_avg_sqs"].append(squares)
        return found

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the sum of the absolute values of all terms."""
        param, grad, old_sum = (given[one][at].abs() for one in given)
        gradient = grad + case["weight_decay"] * param
        if name == "exp_avg_sqs":
            squares: Tensor = old_sum + gradient.square()
            return squares
        root = expected["exp_avg_sqs"][at].sqrt() + case["eps"]
        size: Tensor = param + case["lr"] * gradient / root
        return size * state_factor(case, name, "exp_avg_sqs")


class FusedAdagradSpec(_AdagradSpec):
    """``multi_tensor_adagrad``."""

    op = "fused_adagrad"

    def cases(self) -> Iterable[Case]:
        """Return lists of every kind of shape, in every dtype."""
        return step_cases(_NUMBERS, [{}], ["exp_avg_sqs"])

    def bad(self) -> Iterable[BadCall]:
        """Return wrong numbers, shapes, dtypes and memory; it takes no step."""
        named = {"exp_avg_sq": "sums"}
        return [
            replace(bad, argument=named.get(bad.argument, bad.argument))
            for bad in _BAD
            if bad.argument != "step"
        ]

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Step all tensors in one call."""
        lists = [tensors[name] for name in ("grads", "params", "exp_avg_sqs")]
        op.multi_tensor_adagrad(1024, None, lists, case["lr"], case["eps"], 0, case["weight_decay"])


class CPUAdagradSpec(_AdagradSpec):
    """``create_adagrad``, ``adagrad_update`` and ``destroy_adagrad``."""

    op = "cpu_adagrad"
    on_host = True

    def cases(self) -> Iterable[Case]:
        """Return one tensor of each kind of shape, in every dtype."""
        return step_cases(_NUMBERS, [{}], ["exp_avg_sqs"], single=True)

    def bad(self) -> Iterable[BadCall]:
        """Return wrong numbers, shapes, dtypes and memory."""
        return _BAD

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Step one tensor with an optimizer made for it."""
        numbers = [case[name] for name in ("lr", "eps", "weight_decay")]
        op.create_adagrad(4713, 1e-2, 1e-8, 0.0, False)
        try:
            lists = (tensors[name][0] for name in ("params", "grads", "exp_avg_sqs"))
            op.adagrad_update(4713, case["step"], *numbers, *lists)
        finally:
            op.destroy_adagrad(4713)
