"""Whatever the numbers, layouts and types: every level gives the same bits, close to float64."""

from __future__ import annotations

import math
from typing import Any

import torch
from family_cases import CASES, LEVELS, tensors_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam import ADAM_ADAMW, ADAM_BIAS_CORRECTION, ADAM_MAXIMIZE

ULP = 2.0**-23
ROUNDING = {torch.float32: ULP, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}

pairs = st.sampled_from(
    [
        (torch.float32, torch.float32, False),
        (torch.bfloat16, torch.bfloat16, False),
        (torch.bfloat16, torch.float32, True),
        (torch.bfloat16, torch.bfloat16, True),
        (torch.float16, torch.float16, False),
        (torch.float16, torch.float32, True),
    ]
)
sizes = st.one_of(st.integers(0, 70), st.sampled_from([255, 256, 257, 1023, 1025, 20_011]))
magnitudes = st.floats(-6, 3).map(lambda x: 10.0**x)
numbers = st.fixed_dictionaries(
    {
        "lr": st.one_of(st.just(0.0), st.floats(1e-8, 10.0)),
        "weight_decay": st.one_of(st.just(0.0), st.floats(1e-6, 3.0)),
        "step": st.integers(1, 100_000),
    }
)
betas = st.fixed_dictionaries(
    {
        "beta1": st.one_of(st.just(0.0), st.floats(0.0, 0.999)),
        "beta2": st.one_of(st.just(0.0), st.floats(0.0, 0.99999)),
    }
)
eps = st.sampled_from([1e-30, 1e-15, 1e-8, 1e-3, 1.0])
layouts = st.sampled_from(["plain", "offset", "strided", "turned", "mixed"])
usual = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def laid_out(tensor: Tensor, layout: str, role: str) -> Tensor:
    if layout == "offset":
        return torch.zeros(tensor.numel() + 1, dtype=tensor.dtype)[1:].copy_(tensor)
    if layout == "strided" or (layout == "mixed" and role == "grads"):
        return torch.zeros(2 * tensor.numel(), dtype=tensor.dtype)[::2].copy_(tensor)
    if layout == "turned":
        whole = tensor.numel() // 3 * 3
        return tensor[:whole].view(3, -1).t().contiguous().t().copy_(tensor[:whole].view(3, -1))
    return tensor.clone()


def run_everywhere(
    name: str, pair: tuple, size: int, layout: str, scale: float, hyper: Any
) -> tuple[TensorLists, TensorLists]:
    """Run on every level, compare bits, and return inputs and results."""
    case = CASES[name]
    dtype, grad, masters = pair
    op = case.builder().jit_load()

    def fresh() -> TensorLists:
        lists = case.lists([(size,)], dtype, grad, masters=masters, seed=size)
        lists.roles["grads"] = [(lists.grads[0].float() * scale).to(grad)]
        for role, listed in lists.roles.items():
            lists.roles[role] = [laid_out(listed[0], layout, role)]
        return lists

    results = []
    best = op.kernel.native.simd_level()
    for level in LEVELS:
        if level in op.kernel.native.simd_levels():
            op.kernel.native.force_simd(level)
            results.append(fresh())
            op.kernel.run(results[-1], hyper)
    op.kernel.native.force_simd(best)
    for other in results[1:]:
        for left, right in zip(tensors_of(results[0]), tensors_of(other), strict=True):
            assert torch.equal(left.isnan(), right.isnan())
            assert torch.equal(left.nan_to_num(), right.nan_to_num())
    return fresh(), results[0]


def assert_within(found: Tensor, expected: Tensor, error: Tensor) -> None:
    """Compare where float32 can hold the result; `error` is that of the float32 arithmetic."""
    top = torch.finfo(found.dtype).max
    held = (expected.abs() < top * 0.99) & expected.isfinite()
    rounding = ROUNDING[found.dtype] * expected.abs() + torch.finfo(found.dtype).smallest_normal
    difference = (found.double() - expected).abs()
    assert (difference <= error + rounding)[held].all(), (difference - error - rounding)[held].max()


# A gradient that L2 decay all but cancels, and a second moment that is nothing but its square.
CANCELLED = (
    *((torch.float32, torch.float32, False), 20_011, "plain", 1.0),
    *({"lr": 1.0, "weight_decay": 0.75, "step": 1}, {"beta1": 0.5, "beta2": 0.0}),
    *(1e-30, False, False),
)


@usual
@given(pairs, sizes, layouts, magnitudes, numbers, betas, eps, st.booleans(), st.booleans())
@example(*CANCELLED)
def test_adam(
    pair: tuple, size: int, layout: str, scale: float, common: dict, rates: dict, small: float,
    adamw: bool, maximize: bool,
) -> None:  # fmt: skip
    flags = ADAM_BIAS_CORRECTION + ADAM_ADAMW * adamw + ADAM_MAXIMIZE * maximize
    hyper = CASES["adam"].hyper(**common, **rates, eps=small, flags=flags)
    before, after = run_everywhere("adam", pair, size, layout, scale, hyper)
    if maximize:
        before.roles["grads"] = [-before.grads[0]]
    p, m, v = CASES["adam"].expected(before, 0, hyper)
    old_p, g, old_m, _ = _doubles(before, "exp_avgs", "exp_avg_sqs")
    g = g.abs() + (0 if adamw else hyper.weight_decay) * old_p.abs()
    error_m = 8 * ULP * (old_m.abs() + g)
    c1, c2 = 1 - hyper.beta1**hyper.step, 1 - hyper.beta2**hyper.step
    denominator = v.sqrt() / math.sqrt(c2) + hyper.eps
    # L2 decay may cancel the gradient, so its square is uncertain by its terms.
    error_v = 16 * ULP * (v + g * g) + 1e-37
    of_root = m.abs() * error_v / v.sqrt().clamp_min(1e-30) / math.sqrt(c2) / denominator
    step_error = hyper.lr / c1 * (error_m + 16 * ULP * m.abs() + of_root + 1e-37) / denominator
    decayed = old_p.abs() * (1 + hyper.lr * hyper.weight_decay)
    normal = (v > 1e-36) & (v < 1e37) & (2 * error_v < v) & (denominator > 1e-18)
    error = torch.where(normal, step_error + 4 * ULP * (decayed + p.abs()), math.inf)
    assert_within(_main(after), p, error)
    assert_within(after.roles["exp_avgs"][0], m, error_m)
    assert_within(after.roles["exp_avg_sqs"][0], v, error_v)


@usual
@given(pairs, sizes, layouts, magnitudes, numbers, betas)
def test_lion(pair: tuple, size: int, layout: str, scale: float, common: dict, rates: dict) -> None:
    hyper = CASES["lion"].hyper(**common, **rates)
    before, after = run_everywhere("lion", pair, size, layout, scale, hyper)
    p, m = CASES["lion"].expected(before, 0, hyper)
    old_p, g, old_m = _doubles(before, "exp_avgs")
    terms = old_m.abs() + g.abs()
    direction = hyper.beta1 * old_m + (1 - hyper.beta1) * g
    certain = direction.abs() > 8 * ULP * terms + 1e-37
    error = 4 * ULP * (old_p.abs() * (1 + hyper.lr * hyper.weight_decay) + hyper.lr)
    error = torch.where(certain, error, error + 2 * hyper.lr)
    assert_within(_main(after), p, error)
    assert_within(after.roles["exp_avgs"][0], m, 8 * ULP * terms)


@usual
@given(pairs, sizes, layouts, magnitudes, numbers, st.floats(0, 1), eps)
def test_adagrad(
    pair: tuple, size: int, layout: str, scale: float, common: dict, decay: float, small: float
) -> None:
    hyper = CASES["adagrad"].hyper(**common, lr_decay=decay, eps=small)
    before, after = run_everywhere("adagrad", pair, size, layout, scale, hyper)
    p, total = CASES["adagrad"].expected(before, 0, hyper)
    old_p, g, _ = _doubles(before, "sums")
    terms = g.abs() + hyper.weight_decay * old_p.abs()
    denominator = total.sqrt() + hyper.eps
    step_error = hyper.lr * (16 * ULP * terms + 1e-37) / denominator
    normal = (total > 1e-36) & (total < 1e37)
    error = torch.where(normal, step_error + 4 * ULP * (old_p.abs() + p.abs()), math.inf)
    assert_within(_main(after), p, error)
    assert_within(after.roles["sums"][0], total, 16 * ULP * (total + terms * terms) + 1e-37)


@usual
@given(pairs, sizes, magnitudes, numbers, betas, st.integers(0, 2**64 - 1))
def test_adam8bit(
    pair: tuple, size: int, scale: float, common: dict, rates: dict, seed: int
) -> None:
    """The parameter moves by exact moments; the moments keep the code's bound."""
    hyper = CASES["adam8bit"].hyper(**common, **rates, seed=seed, flags=3)
    before, after = run_everywhere("adam8bit", pair, size, "plain", scale, hyper)
    _, m, v = CASES["adam8bit"].expected(before, 0, hyper)
    for role, exact, least in (("exp_avgs", m, 2.0**-14), ("exp_avg_sqs", v, 2.0**-30)):
        codes, scales = after.roles[role][0], after.extras[f"{role[:-1]}_scales"][0]
        found = _decode(codes, scales, signed=role == "exp_avgs")
        spread = scales.double().repeat_interleave(256)[:size]
        error = exact.abs() * (0.125 + 1e-4) + spread * least + 1e-37
        held = spread.isfinite() & (exact.abs() < 1e37)
        assert ((found - exact).abs() <= error)[held].all()


def _decode(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    from accel.ops.optimizers.codes8bit import decode

    return decode(codes, scales, signed=signed).double()


def _doubles(lists: TensorLists, *states: str) -> list[Tensor]:
    roles = lists.roles
    main = roles.get("masters", roles["params"])[0]
    return [main.double(), roles["grads"][0].double(), *(roles[s][0].double() for s in states)]


def _main(lists: TensorLists) -> Tensor:
    roles = lists.roles
    main = roles.get("masters", roles["params"])[0]
    if "masters" in roles:
        expected = main.to(roles["params"][0].dtype)
        assert torch.equal(roles["params"][0].nan_to_num(), expected.nan_to_num())
    return main
