"""AdEMAMix beside its authors' code: schedules, steps, and what it refuses."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from accel.optim import AdEMAMix, FusedAdam


def theirs(
    p: torch.Tensor, grads: list[torch.Tensor], lr: float, betas: tuple[float, float, float],
    alpha: float, warmups: tuple[int, int], eps: float, decay: float,
) -> torch.Tensor:  # fmt: skip
    """Return a parameter after steps as the authors' code does them, with its two schedulers."""

    def life(beta: float) -> float:
        return math.log(0.5) / math.log(beta + 1e-8) - 1

    fast, slow, square = (torch.zeros_like(p) for _ in range(3))
    beta1, beta2, last = betas
    for step, grad in enumerate(grads, start=1):
        weight, beta3 = alpha, last
        if step < warmups[0]:
            weight = step / warmups[0] * alpha
        if step < warmups[1]:
            a = step / warmups[1]
            beta3 = math.pow(0.5, 1 / ((1 - a) * life(beta1) + a * life(last) + 1))
        fast = fast.mul(beta1).add(grad, alpha=1 - beta1)
        slow = slow.mul(beta3).add(grad, alpha=1 - beta3)
        square = square.mul(beta2).addcmul(grad, grad, value=1 - beta2)
        denominator = (square.sqrt() / math.sqrt(1 - beta2**step)).add(eps)
        update = (fast / (1 - beta1**step) + weight * slow) / denominator
        p = p - lr * (update + decay * p)
    return p


@pytest.mark.parametrize("rung", ["auto", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("warmups", [(0, 0), (5, 8), (8, 5), (1, 1), (100, 100)])
def test_steps_of_the_authors(
    rung: str, dtype: torch.dtype, warmups: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEL_OPS", rung)
    draw = torch.Generator().manual_seed(0)
    start, *grads = torch.randn(12, 50, generator=draw, dtype=torch.float64)
    numbers: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.99, 0.999), "alpha": 5.0, "eps": 1e-6}
    # One parameter is stepped from the start, the other only later: each has steps of its own.
    params = [torch.nn.Parameter(start.to(dtype, copy=True)) for _ in range(2)]
    alpha_warmup, beta3_warmup = (steps or None for steps in warmups)
    ours = AdEMAMix(params, alpha_warmup=alpha_warmup, beta3_warmup=beta3_warmup,
                    weight_decay=0.1, **numbers)  # fmt: skip
    for number, grad in enumerate(grads):
        params[0].grad = grad.to(dtype)
        params[1].grad = grads[number - 4].to(dtype) if number >= 4 else None
        ours.step()
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {}
    for param, given in zip(params, (grads, grads[:-4]), strict=True):
        expected = theirs(start, given, warmups=warmups, decay=0.1, **numbers)
        torch.testing.assert_close(param.detach(), expected.to(dtype), **tolerance)


def test_its_state_is_no_other_optimizers() -> None:
    param = torch.nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    mine, other = AdEMAMix([param]), FusedAdam([param])
    mine.step()
    other.step()
    with pytest.raises(ValueError, match="exp_avg_slow"):
        other.load_state_dict(copy.deepcopy(mine.state_dict()))
    with pytest.raises(ValueError, match="exp_avg_slow"):
        mine.load_state_dict(copy.deepcopy(other.state_dict()))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"betas": (0.9, 0.99)}, "betas"),
        ({"betas": (0.9, 0.99, 1.0)}, r"betas\[2\]"),
        ({"betas": (0.9, 0.99, 1.0 - 1e-9), "beta3_warmup": 10}, "beta3"),
        ({"alpha": -1.0}, "alpha"),
        ({"alpha_warmup": -1}, "alpha_warmup"),
        ({"beta3_warmup": math.inf}, "beta3_warmup"),
        ({"beta3_warmup": 1.5}, r"beta3_warmup is 1\.5; expected a whole number of steps"),
        ({"alpha_warmup": 0.5}, r"alpha_warmup is 0\.5; expected a whole number of steps"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises((TypeError, ValueError), match=word):
        AdEMAMix([torch.nn.Parameter(torch.ones(3))], **options)
