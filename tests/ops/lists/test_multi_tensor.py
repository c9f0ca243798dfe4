"""``multi_tensor`` against float64: every rung, SIMD level, type and number of threads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from list_cases import TYPES, exact_norm, flag, mixed, rungs, same_bits, within_a_step
from torch import Tensor

NORMS = ("multi_tensor_l2norm", "multi_tensor_l2norm_mp")


@pytest.fixture(scope="module")
def ops() -> dict[str, Any]:
    return rungs()


def outputs_like(tensors: list[Tensor], shift: int = 1) -> list[Tensor]:
    return [
        torch.full_like(one, 9.0, dtype=TYPES[(at + shift) % 3]) for at, one in enumerate(tensors)
    ]


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_one_step_from_the_exact_ones(op: Any, name: str) -> None:
    tensors = mixed()
    noop = flag()
    total, each = getattr(op, name)(65536, noop, [tensors], True)
    assert total.shape == (1,) and each.shape == (len(tensors),) and each.dtype == torch.float32
    assert within_a_step(total, exact_norm(tensors))
    assert all(within_a_step(each[at], exact_norm([one])) for at, one in enumerate(tensors))
    assert noop.item() == 0
    alone, none = getattr(op, name)(65536, noop, [tensors])
    assert torch.equal(alone, total) and none.shape == (0,)


def test_unscaled_norms(op: Any) -> None:
    tensors, noop, by = mixed(3), flag(), torch.tensor([-0.125], dtype=torch.float32)
    total, each = op.multi_tensor_unscale_l2norm(1, noop, [tensors], by, True)
    assert within_a_step(total, exact_norm(tensors) / 8)
    assert within_a_step(each[8], exact_norm(tensors[8:9]) / 8) and noop.item() == 0
    op.multi_tensor_unscale_l2norm(1, noop, [tensors], by * math.inf)
    assert noop.item() == 1


def test_levels_and_the_reference_have_the_same_bits(level: Any, ops: dict[str, Any]) -> None:
    tensors, others = mixed(1), mixed(2)[::-1][: len(mixed())]
    others = [torch.randn_like(one).to(TYPES[at % 2]) for at, one in enumerate(tensors)]
    left, right = (outputs_like(tensors) for _ in range(2))
    for op, outputs in ((level, left), (ops["reference"], right)):
        op.multi_tensor_scale(1, flag(), [tensors, outputs], 0.3)
    assert same_bits(left, right)
    for op, outputs in ((level, left), (ops["reference"], right)):
        op.multi_tensor_axpby(1, flag(), [tensors, others, outputs], 0.3, -1.7)
    assert same_bits(left, right)
    norms = [
        op.multi_tensor_clip(given, 0.7) for op, given in ((level, left), (ops["reference"], right))
    ]
    assert within_a_step(norms[0], norms[1].double()) and same_bits(left, right)
    assert exact_norm(left) == pytest.approx(0.7, rel=1e-2)


def test_levels_add_in_one_order(ops: dict[str, Any]) -> None:
    native, tensors = ops["native"], mixed(5)
    library = native._norm._library
    best, found = library.simd_level(), []
    for name in library.simd_levels():
        library.force_simd(name)
        found.append(torch.cat(native.multi_tensor_l2norm(1, flag(), [tensors], True)))
    library.force_simd(best)
    assert all(torch.equal(one, found[0]) for one in found)


def test_threads_change_no_bit(ops: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    native = ops["native"]
    tensors = mixed(6, [100_003, 5, 70_000, 200_001, 0, 8192] * 2)
    found = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setenv("ACCEL_NUM_THREADS", str(threads))
        copies = [one.clone() for one in tensors]
        norms = torch.cat(native.multi_tensor_l2norm(1, flag(), [copies], True))
        total = native.multi_tensor_clip(copies, 0.5)
        found.append([norms, total, *copies])
    assert all(same_bits(one, found[0]) for one in found)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("at", [3, 9])
@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_not_finite_sets_the_flag(op: Any, value: float, at: int, dtype: Any) -> None:
    tensors = [one.to(dtype) for one in mixed()]
    others = [torch.ones_like(one) for one in tensors]
    tensors[at][-1] = value
    for call, expected in (
        (lambda noop: op.multi_tensor_l2norm(1, noop, [tensors]), 1),
        (lambda noop: op.multi_tensor_scale(1, noop, [tensors, outputs_like(tensors)], 0.0), 1),
        (lambda noop: axpby(op, noop, tensors, others, 0), 1),
        (lambda noop: axpby(op, noop, tensors, others, 1), 0),
        (lambda noop: axpby(op, noop, others, tensors, 1), 1),
        (lambda noop: axpby(op, noop, others, tensors, -1), 1),
    ):
        noop = flag()
        call(noop)
        assert noop.item() == expected
        kept = flag(5)
        call(kept)
        assert kept.item() == (1 if expected else 5), "a flag is set, and never cleared"


def axpby(op: Any, noop: Tensor, xs: list[Tensor], ys: list[Tensor], check: int) -> None:
    op.multi_tensor_axpby(1, noop, [xs, ys, outputs_like(xs)], 0.5, 2.0, check)


def test_a_set_flag_stops_one_function_alone(op: Any) -> None:
    tensors, noop = mixed(), flag(1)
    total, each = op.multi_tensor_l2norm_mp(1, noop, [tensors], True)
    assert not total.any() and not each.any()
    assert op.multi_tensor_l2norm(1, noop, [tensors])[0].any()


def test_large_numbers_do_not_overflow_on_their_way(op: Any) -> None:
    noop, large = flag(), [torch.full((9,), 3e37), torch.full((2,), 1e-30)]
    total, _ = op.multi_tensor_l2norm(1, noop, [large])
    assert total.item() == pytest.approx(9e37) and noop.item() == 0
    op.multi_tensor_l2norm(1, noop, [[torch.full((999,), 3e38)]])
    assert noop.item() == 1


def test_results_are_rounded_to_nearest(op: Any) -> None:
    values = torch.tensor([1.0 + 2**-8, 1.0 + 3 * 2**-8, 65520.0, 2.0**-25], dtype=torch.float32)
    half, brain = torch.empty(4, dtype=torch.float16), torch.empty(4, dtype=torch.bfloat16)
    op.multi_tensor_scale(1, flag(), [[values, values], [half, brain]], 1.0)
    assert torch.equal(half, values.half()) and torch.equal(brain, values.bfloat16())


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_clipping_by_a_norm_that_is_not_finite(op: Any, value: float, keep: bool) -> None:
    tensors = [torch.tensor([1.0, value]), torch.tensor([2.0])]
    total = op.multi_tensor_clip(tensors, 1.0, keep)
    assert not total.isfinite()
    if keep:
        assert tensors[1].item() == 2.0 and tensors[0][0].item() == 1.0
    else:
        assert tensors[0][1].isnan() and (tensors[1].item() == 0.0 or math.isnan(value))


numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)
lists = st.lists(
    st.tuples(st.lists(numbers, max_size=40), st.sampled_from(TYPES), st.integers(0, 2)),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(lists, numbers, numbers, st.sampled_from([-1, 0, 1]))
def test_any_numbers_give_the_same_on_both_rungs(
    ops: dict[str, Any], drawn: Any, a: float, b: float, check: int
) -> None:
    tensors = [torch.tensor(values, dtype=torch.float32).to(dtype) for values, dtype, _ in drawn]
    results = []
    for op in ops.values():
        outputs = [
            torch.empty_like(one, dtype=TYPES[to])
            for one, (_, _, to) in zip(tensors, drawn, strict=True)
        ]
        flags = [flag() for _ in range(3)]
        norms = op.multi_tensor_l2norm(1, flags[0], [tensors], True)
        op.multi_tensor_scale(1, flags[1], [tensors, outputs], a)
        written = [one.clone() for one in outputs]
        op.multi_tensor_axpby(1, flags[2], [tensors, outputs, outputs], a, b, check)
        results.append(([*written, *outputs, *flags], torch.cat(norms)))
    assert same_bits(results[0][0], results[1][0])
    left, right = (one[1].nan_to_num(1.0, 2.0) for one in results)
    assert within_a_step(left, right.double())
    finite = all(bool(one.isfinite().all()) for one in tensors)
    assert not finite or bool(results[0][1].isfinite().all())
