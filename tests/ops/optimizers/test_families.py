"""What holds for every optimizer op: float64 definition, levels, layouts, flags, dispatcher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from family_cases import (
    CASES,
    LEVELS,
    SHAPES,
    Case,
    assert_like_the_reference,
    compiles,
    tensors_of,
)

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture
def native(case: Case, session_cache: object) -> Any:
    return case.builder().jit_load()


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, native: Any) -> Iterator[str]:
    library = native.kernel.native
    if request.param not in library.simd_levels():
        pytest.skip(f"this processor or build has no {request.param}")
    best = library.simd_level()
    library.force_simd(request.param)
    assert library.simd_level() == request.param
    yield request.param
    library.force_simd(best)


@pytest.mark.parametrize("option", [0, 1])
def test_against_float64(case: Case, native: Any, level: str, option: int) -> None:
    hyper = case.hyper(**case.options[option])
    lists, before = case.lists(SHAPES), case.lists(SHAPES)
    native.kernel.run(lists, hyper)
    for index in range(len(SHAPES)):
        param, *states = case.expected(before, index, hyper)
        torch.testing.assert_close(lists.params[index].double(), param, rtol=3e-6, atol=3e-7)
        if not case.reference.family.coded:
            for role, state in zip(case.reference.family.states, states, strict=True):
                found = lists.roles[role][index].double()
                torch.testing.assert_close(found, state, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("param", [torch.float32, *HALVES])
@pytest.mark.parametrize("grad", [torch.float32, *HALVES])
def test_levels_and_reference_agree(
    case: Case, native: Any, level: str, param: torch.dtype, grad: torch.dtype
) -> None:
    assert_like_the_reference(case, native, dtype=param, grad=grad)


@pytest.mark.parametrize("param", HALVES)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_low_precision_states_and_masters(
    case: Case, native: Any, level: str, param: torch.dtype, rounding: str
) -> None:
    hyper = {"rounding": rounding, "seed": 77}
    if case is not CASES["lamb"] or rounding == "nearest":
        assert_like_the_reference(case, native, dtype=param, state=param, hyper=hyper)
        assert_like_the_reference(case, native, dtype=param, masters=True, hyper=hyper)


@pytest.mark.parametrize("count", [0.0, 6.0])
def test_counted_steps_are_given_steps(case: Case, native: Any, count: float) -> None:
    counted, given = case.lists(SHAPES, steps=count), case.lists(SHAPES)
    native.kernel.run(counted, case.hyper(step=99))
    native.kernel.run(given, case.hyper(step=int(count) + 1))
    assert [step.item() for step in counted.steps] == [count + 1] * len(SHAPES)
    for left, right in zip(tensors_of(counted), tensors_of(given), strict=False):
        assert torch.equal(left, right)


@pytest.mark.parametrize("native_op", [True, False])
def test_random_bits_are_those_of_the_step(case: Case, native: Any, native_op: bool) -> None:
    kernel = (native if native_op else case.reference()).kernel
    options = {"dtype": torch.bfloat16, "state": torch.bfloat16}
    numbers = {"rounding": "stochastic", "seed": 2**63 + 7}
    counted, given, later = (
        case.lists(SHAPES, steps=6.0, **options),
        case.lists(SHAPES, **options),
        case.lists(SHAPES, **options),
    )
    kernel.run(counted, case.hyper(step=99, **numbers))
    kernel.run(given, case.hyper(step=7, **numbers))
    kernel.run(later, case.hyper(step=8, **numbers))
    for left, right in zip(tensors_of(counted), tensors_of(given), strict=False):
        assert torch.equal(left, right)
    assert not all(map(torch.equal, tensors_of(given), tensors_of(later)))


def test_every_tensor_has_a_step_of_its_own(case: Case, native: Any) -> None:
    together = case.lists([(500,), (500,)], steps=1.0)
    together.steps[1].fill_(40.0)
    alone = case.lists([(500,), (500,)], steps=1.0)
    native.kernel.run(together, case.hyper())
    native.kernel.run(alone.select([0]), case.hyper())
    assert torch.equal(together.params[0], alone.params[0])
    assert [step.item() for step in together.steps] == [2.0, 41.0]


@pytest.mark.parametrize("native_op", [True, False])
@pytest.mark.parametrize("flag", ["found_inf", "noop_flag"])
def test_a_flag_leaves_everything(case: Case, native: Any, native_op: bool, flag: str) -> None:
    kernel = (native if native_op else case.reference()).kernel
    lists, before = (case.lists(SHAPES, steps=3.0) for _ in range(2))
    kernel.run(lists, case.hyper(**{flag: torch.tensor(1.0)}))
    for role in lists.written():
        if role not in ("norms", "coeffs"):
            left, right = lists.written()[role], before.written()[role]
            assert all(map(torch.equal, left, right)), role
    assert all(map(torch.equal, lists.steps, before.steps))
    kernel.run(lists, case.hyper(**{flag: torch.tensor(0.0)}))
    assert not torch.equal(lists.params[-2], before.params[-2])


def test_gradient_scale_and_rate_as_tensors(case: Case, native: Any) -> None:
    plain, scaled = case.lists([(3000,)]), case.lists([(3000,)])
    scaled.roles["grads"] = [scaled.grads[0] * 1024.0]
    # Powers of two: what is scaled up and down again, or given in float32, is the same number.
    native.kernel.run(plain, case.hyper(lr=2.0**-7))
    native.kernel.run(scaled, case.hyper(grad_scale=torch.tensor(1024.0), lr=0.0,
                                         lr_tensor=torch.tensor(2.0**-7)))  # fmt: skip
    assert torch.equal(plain.params[0], scaled.params[0])


def test_maximize_turns_the_gradient(case: Case, native: Any) -> None:
    up, down = case.lists([(3000,)]), case.lists([(3000,)])
    down.roles["grads"] = [-down.grads[0]]
    flags = case.hyper().flags
    native.kernel.run(up, case.hyper(flags=flags | case.skip_flag))
    native.kernel.run(down, case.hyper(flags=flags))
    for left, right in zip(tensors_of(up), tensors_of(down), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("shape", ["transposed", "channels_last", "strided", "mixed"])
def test_any_layout_is_right(case: Case, native: Any, shape: str) -> None:
    size = (6, 5, 9, 7)
    plain, other = case.lists([size]), case.lists([size])
    for role, listed in other.roles.items():
        tensor = listed[0]
        if shape == "channels_last" or (shape == "mixed" and role == "grads"):
            moved = tensor.contiguous(memory_format=torch.channels_last)
        elif shape == "strided" and tensor.dtype != torch.uint8:
            moved = torch.zeros(6, 5, 9, 14)[..., ::2].copy_(tensor)
        elif shape == "transposed":
            moved = tensor.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
        else:
            moved = tensor
        other.roles[role] = [moved]
    if case.reference.family.coded and shape in ("transposed", "channels_last"):
        # Blocks follow the memory: what is stored differs, so only the step's own rule can hold.
        param, *_ = case.expected(other, 0, case.hyper())
        native.kernel.run(other, case.hyper())
        assert other.params[0].isfinite().all() and not torch.equal(other.params[0], param.float())
        return
    native.kernel.run(plain, case.hyper())
    native.kernel.run(other, case.hyper())
    for role in other.roles:
        torch.testing.assert_close(other.roles[role][0], plain.roles[role][0], rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_result_does_not_depend_on_threads(
    case: Case, native: Any, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [(100_003,), (1,), (33_333,), (0,), (257,)]
    monkeypatch.setenv("ACCEL_NUM_THREADS", "3")
    first, second = case.lists(shapes), case.lists(shapes)
    native.kernel.run(first, case.hyper())
    monkeypatch.setenv("ACCEL_NUM_THREADS", threads)
    native.kernel.run(second, case.hyper())
    assert all(map(torch.equal, tensors_of(first), tensors_of(second)))


def test_nan_and_infinity_stay_visible(case: Case, native: Any, level: str) -> None:
    lists, twin = case.lists([(2000,)]), case.lists([(2000,)])
    for each in (lists, twin):
        each.grads[0][7], each.grads[0][300] = float("nan"), float("inf")
    native.kernel.run(lists, case.hyper())
    case.reference().kernel.run(twin, case.hyper())
    assert lists.params[0][7].isnan()
    for left, right in zip(tensors_of(lists), tensors_of(twin), strict=True):
        if left.dtype != torch.uint8:
            assert torch.equal(left.isfinite(), right.isfinite())


@compiles
@pytest.mark.parametrize("native_op", [True, False])
def test_opcheck(case: Case, native: Any, native_op: bool) -> None:
    kernel = (native if native_op else case.reference()).kernel
    family = kernel.family
    lists = case.lists([(30,), (4, 5)], steps=2.0)
    captured: list[tuple[Any, ...]] = []

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: captured.append(arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops, "accel", Recorder())
        family.dispatch(kernel.key, lists, case.hyper(found_inf=torch.tensor(0.0)))
    torch.library.opcheck(getattr(torch.ops.accel, f"{family.name}_step"), captured[0])


@pytest.mark.parametrize("native_op", [True, False])
def test_what_does_not_fit_is_refused(case: Case, native: Any, native_op: bool) -> None:
    kernel = (native if native_op else case.reference()).kernel
    state = case.reference.family.states[0]

    def refused(error: type[Exception], match: str, **changed: list[torch.Tensor]) -> None:
        lists = case.lists([(10,)])
        lists.roles |= changed
        before = [tensor.clone() for tensor in tensors_of(lists)]
        with pytest.raises(error, match=match):
            kernel.run(lists, case.hyper())
        assert all(map(torch.equal, tensors_of(lists), before))

    refused(ValueError, r"grads\[0\] has shape", grads=[torch.zeros(9)])
    refused(TypeError, r"grads\[0\] has layout", grads=[torch.ones(10).to_sparse()])
    refused(ValueError, r"grads\[0\] requires grad", grads=[torch.zeros(10, requires_grad=True)])
    refused(ValueError, rf"{state} has 0 tensors", **{state: []})
    refused(TypeError, rf"{state}\[0\] has dtype", **{state: [torch.zeros(10, dtype=torch.int32)]})
    shared = torch.zeros(20)
    refused(ValueError, "shares memory", params=[shared[:10]], grads=[shared[5:15]])


def test_empty_lists(case: Case, native: Any) -> None:
    native.kernel.run(case.lists([]), case.hyper())
    native.kernel.run(case.lists([(0,), (0, 3)]), case.hyper())
