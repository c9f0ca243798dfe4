"""LAMB, by the formulas of You et al. (2020), with the ratio of norms within bounds."""

from __future__ import annotations

from collections.abc import Iterable
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

_NUMBERS: tuple[dict[str, float], ...] = (
    {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "step": 1},
    {"lr": 0.1, "beta1": 0.0, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.3, "step": 7},
    {"lr": 1e-2, "beta1": 0.95, "beta2": 0.98, "eps": 1e-6, "weight_decay": 0.0, "step": 4000},
)
_BOUNDS = ({"min_coeff": 0.01, "max_coeff": 10.0}, {"min_coeff": 0.5, "max_coeff": 0.6})
_BAD = (
    *(bad for bad in BAD_STEPS if bad.argument != "weight_decay"),
    BadCall("a NaN decay", "decay", set_number("weight_decay", float("nan"))),
    BadCall("bounds the wrong way round", "max_coeff", set_number("max_coeff", 0.001)),
    BadCall("a scale of 0", "grad_scale", set_number("grad_scale", 0.0)),
    BadCall("moments that share memory", "exp_avg", same_memory("exp_avgs", "exp_avg_sqs")),
    BadCall("a moment of whole numbers", "exp_avg", whole_numbers("exp_avgs")),
)


class FusedLambSpec(OpSpec):
    """``lamb``, whose result is held in the list ``coeffs``."""

    op = "fused_lamb"
    written = ("params", "exp_avgs", "exp_avg_sqs", "coeffs")

    def cases(self) -> Iterable[Case]:
        """Return one tensor of each kind of shape, in every dtype and mode, zeros too."""
        modes = [
            {"mode": mode, "bias_correction": corrected, "grad_scale": scale, "zero": zero} | bounds
            for (mode, corrected, bounds), (scale, zero) in zip(
                product((0, 1), (True, False), _BOUNDS),
                ((1.0, False), (128.0, False), (1.0, True), (0.5, False)) * 2,
                strict=True,
            )
        ]
        return step_cases(modes, _NUMBERS, ("exp_avgs", "exp_avg_sqs"), single=True)

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return a parameter, a scaled gradient and moments of ordinary sizes."""
        given = step_tensors(case, generator)
        (shape,) = case["shapes"]
        if case["zero"]:
            given["params"] = [torch.zeros(shape, dtype=torch.float64, device="cpu")]
        return {
            "params": given["params"],
            "grads": [grad * case["grad_scale"] for grad in given["grads"]],
            "exp_avgs": [normal(shape, 0.1, generator)],
            "exp_avg_sqs": [normal(shape, 0.1, generator).square() + 1e-3],
            "coeffs": [torch.zeros(1, dtype=torch.float64, device="cpu")],
        }

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return parameter, moments and the ratio after the step."""
        param, grad, mean, square, _ = (listed[0] for listed in given.values())
        grad = grad / case["grad_scale"]
        mean = case["beta1"] * mean + (1 - case["beta1"]) * grad
        square = case["beta2"] * square + (1 - case["beta2"]) * grad.square()
        update = mean / _root(case, square) + case["weight_decay"] * param
        ratio = torch.ones((), dtype=torch.float64, device="cpu")
        # A norm that is NaN is not 0: the ratio is NaN.
        if param.norm() != 0 and update.norm() != 0:
            ratio = (param.norm() / update.norm()).clamp(case["min_coeff"], case["max_coeff"])
        return {
            "params": [param - _rate(case) * ratio * update],
            "exp_avgs": [mean],
            "exp_avg_sqs": [square],
            "coeffs": [ratio.reshape(1)],
        }

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the sum of the absolute values of all terms."""
        param, grad, mean, square, _ = (listed[0].abs() for listed in given.values())
        grad = grad / case["grad_scale"]
        means = case["beta1"] * mean + (1 - case["beta1"]) * grad
        squares = case["beta2"] * square + (1 - case["beta2"]) * grad.square()
        update = means / _root(case, expected["exp_avg_sqs"][0]) + case["weight_decay"] * param
        ratio = expected["coeffs"][0].reshape(())
        sizes: dict[str, Tensor] = {
            "params": param + 2 * _rate(case) * ratio * update,
            "exp_avgs": means,
            "exp_avg_sqs": squares,
            "coeffs": ratio.reshape(1) * 8,
        }
        return sizes[name] * state_factor(case, name, "exp_avgs")

    def bad(self) -> Iterable[BadCall]:
        """Return wrong numbers, shapes, dtypes and memory."""
        return _BAD

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Step the tensor, and keep the ratio that is returned."""
        order = ("exp_avgs", "exp_avg_sqs", "grads")
        ratio = op.lamb(
            tensors["params"][0],
            tensors["params"][0].new_empty(0),
            *(tensors[name][0] for name in order),
            *(case[name] for name in ("lr", "beta1", "beta2", "max_coeff", "min_coeff", "eps")),
            *(case[name] for name in ("grad_scale", "step", "mode", "bias_correction")),
            case["weight_decay"],
        )
        tensors["coeffs"][0].copy_(ratio)


def _root(case: Case, square: Tensor) -> Tensor:
    if case["mode"] == 0:
        inside: Tensor = (square + case["eps"]).sqrt()
        return inside
    return square.sqrt() + float(case["eps"])


def _rate(case: Case) -> float:
    if not case["bias_correction"]:
        return float(case["lr"])
    first, second = (1 - case[beta] ** case["step"] for beta in ("beta1", "beta2"))
    return float(case["lr"] * second**0.5 / first)
