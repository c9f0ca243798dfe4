"""Gradients whose squares no float32 holds: they cost their own element, and not its block."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from family_cases import LEVELS
from torch import Tensor, nn

from accel import optim
from accel.ops.optimizers.adam8bit import Adam8bit

HUGE = (2e20, 5e20, -5e20, 5.83e20, 1e21, 3e30, -3.4e38)
SIZES = (256, 300, 700)


def stepped(kind: Any, huge: float, size: int, steps: int, **options: Any) -> tuple[Tensor, Any]:
    make = torch.Generator().manual_seed(1)
    param = nn.Parameter(torch.randn(size, generator=make))
    optimizer = kind([param], lr=1e-2, **options)
    for step in range(steps):
        param.grad = torch.randn(size, generator=make)
        if step == 1:
            param.grad[7] = huge
        optimizer.step()
    return param.detach(), optimizer.state[param]


@pytest.mark.parametrize("rung", ["native", "reference"])
@pytest.mark.parametrize("huge", HUGE)
def test_a_huge_gradient_leaves_a_block_finite(
    monkeypatch: pytest.MonkeyPatch, huge: float, rung: str
) -> None:
    monkeypatch.setenv("ACCEL_OPS", rung)
    options = {"betas": (0.9, 0.999), "weight_decay": 0.01}
    ours, state = stepped(optim.Adam8bit, huge, 700, 6, **options)
    theirs, _ = stepped(torch.optim.AdamW, huge, 700, 6, **options)
    assert theirs.isfinite().all() and ours.isfinite().all()
    for key in ("exp_avg_scale", "exp_avg_sq_scale"):
        assert state[key].isfinite().all(), key
    # The element itself moves as torch's does: its moments are the largest of their block.
    torch.testing.assert_close(ours[7], theirs[7], rtol=0.0, atol=2e-2)
    # Nobody moves further than a rate a step.
    start, _ = stepped(optim.Adam8bit, huge, 700, 0)
    assert (ours - start).abs().max() < 6 * 2e-2
    torch.testing.assert_close(ours[256:], theirs[256:], rtol=0.0, atol=1e-2)


@pytest.mark.parametrize("huge", [5e20, 5.83e20, 3.4e38, -3.4e38, math.inf, math.nan])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.999), (0.3, 0.5)])
def test_native_and_reference_give_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, huge: float, betas: tuple[float, float]
) -> None:
    found = {}
    for size in SIZES:
        for rung in ("reference", *LEVELS):
            monkeypatch.setenv("ACCEL_OPS", "reference" if rung == "reference" else "native")
            monkeypatch.setenv("ACCEL_CPU_TARGET", "" if rung == "reference" else rung)
            found[rung] = stepped(optim.Adam8bit, huge, size, 5, betas=betas)
        for rung in LEVELS:
            (ours, state), (wanted, expected) = found[rung], found["reference"]
            assert torch.equal(ours.nan_to_num(9.0), wanted.nan_to_num(9.0)), (rung, size)
            for key, entry in state.items():
                values, others = entry.float().nan_to_num(9.0), expected[key].float()
                assert torch.equal(values, others.nan_to_num(9.0)), (rung, size, key)
            assert ours[256:].isfinite().all()
            if math.isfinite(huge):
                assert ours.isfinite().all(), (rung, size)


def test_moments_out_of_range_have_codes() -> None:
    """The scale is bounded: exp_avg stops at 2^127, and exp_avg_sq goes on to infinity."""
    largest = [2.0**127, 2.5e38, 3.1e38, math.inf]
    values = torch.zeros(256 * len(largest))
    values[7::256] = torch.tensor(largest)
    op = Adam8bit()
    codes, scales = op.quantize_blockwise(-values, True)
    assert scales.tolist() == [2.0**127] * 4
    assert (op.dequantize_blockwise(codes, scales, True)[7::256] / -(2.0**127) == 1 - 2**-15).all()
    codes, scales = op.quantize_blockwise(values, False)
    assert scales.tolist() == [2.0**127] + [1.125 * 2.0**127] * 3
    found = op.dequantize_blockwise(codes, scales, False).view(-1, 256)
    torch.testing.assert_close(found[:, 7], torch.tensor(largest), rtol=1 / 16, atol=0.0)
    assert found[:, 8:].isfinite().all()


def test_an_infinite_moment_survives_a_float_state_dict() -> None:
    param = nn.Parameter(torch.ones(300))
    optimizer = optim.Adam8bit([param])
    param.grad = torch.ones(300)
    param.grad[3] = 1e30
    optimizer.step()
    saved = optimizer.float_state_dict()
    assert saved["state"][0]["exp_avg_sq"][3] == math.inf
    again = optim.Adam8bit([param])
    again.load_state_dict(saved)
    again.step()
    assert param.isfinite().all()
    assert again.float_state_dict()["state"][0]["exp_avg_sq"][3] == math.inf


@pytest.mark.parametrize("rung", ["native", "reference"])
@pytest.mark.parametrize(
    ("kind", "floats"),
    [(optim.Adam8bit, optim.FusedAdam), (optim.Lion8bit, optim.FusedLion)],
    ids=["adam", "lion"],
)
def test_an_infinite_signed_moment_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, kind: Any, floats: Any, rung: str
) -> None:
    """Its codes end at 2^127: it would become a large number, and a large step."""
    monkeypatch.setenv("ACCEL_OPS", rung)
    param = nn.Parameter(torch.ones(300))
    param.grad = torch.ones(300)
    before = floats([param], lr=1e-3)
    before.step()
    before.state[param]["exp_avg"][[3, 299]] = torch.tensor([math.inf, -math.inf])
    after = kind([param], lr=1e-3)
    after.load_state_dict(before.state_dict())
    kept = param.detach().clone()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"params\[0\]: state\['exp_avg'\] has 2 infinite"):
            after.step()
        assert torch.equal(param, kept)
    after.state[param]["exp_avg"][[3, 299]] = 1.0
    after.step()
    assert param.isfinite().all() and after.state[param]["exp_avg"].dtype == torch.uint8
