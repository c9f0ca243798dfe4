"""Numbers of every kind and size: taken alike by native op and reference, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from family_cases import CASES, Case, tensors_of
from torch import Tensor, nn

from accel.builders import cpu
from accel.ops.optimizers.adagrad import CPUAdagrad, FusedAdagrad
from accel.ops.optimizers.adam import CPUAdam, FusedAdam
from accel.ops.optimizers.adam8bit import Adam8bit
from accel.ops.optimizers.lamb import FusedLamb
from accel.ops.optimizers.lion import CPULion, FusedLion
from accel.ops.optimizers.lion8bit import Lion8bit
from accel.optim import FusedAdam as AdamOptimizer
from accel.optim import FusedLamb as LambOptimizer
from accel.optim import FusedLion as LionOptimizer

HUGE = 10**400
UNPRINTABLE = 10**5000
BETAS = {"beta1": 0.9, "beta2": 0.99}
ADAM = {**BETAS, "lr": 0.1, "epsilon": 1e-8, "step": 1, "mode": 1, "bias_correction": True,
        "weight_decay": 0.1}  # fmt: skip
LAMB = {**BETAS, "lr": 0.1, "max_coeff": 10.0, "min_coeff": 0.01, "eps": 1e-8, "grad_scale": 1.0,
        "step": 1, "mode": 0, "bias_correction": True, "decay": 0.1}  # fmt: skip
Call = Callable[..., None]


def tensors(count: int) -> list[Tensor]:
    return [torch.full((5,), index + 1.0) for index in range(count)]


def on_lists(function: str, count: int) -> Callable[[Any], Call]:
    def bound(op: Any) -> Call:
        def call(given: list[Any], noop_flag: Any = None, **numbers: Any) -> None:
            getattr(op, function)(65536, noop_flag, [[one] for one in given], **numbers)

        return call

    return bound


def lamb(op: Any) -> Call:
    def call(given: list[Any], **numbers: Any) -> None:
        p, m, v, g = given
        op.lamb(**{"p": p, "p_copy": torch.empty(0), "m": m, "v": v, "g": g, **numbers})

    return call


def adam8bit(op: Any) -> Call:
    def call(given: list[Any], noop_flag: Any = None, **numbers: Any) -> None:
        g, p = given[:2]
        codes = [[torch.zeros(5, dtype=torch.uint8)] for _ in range(2)]
        scales = [[torch.zeros(1)] for _ in range(2)]
        lists = [[g], [p], codes[0], scales[0], codes[1], scales[1]]
        op.multi_tensor_adam8bit(65536, noop_flag, lists, **numbers)

    return call


def lion8bit(op: Any) -> Call:
    def call(given: list[Any], noop_flag: Any = None, **numbers: Any) -> None:
        lists = [*([one] for one in given), [torch.zeros(5, dtype=torch.uint8)], [torch.zeros(1)]]
        op.multi_tensor_lion8bit(65536, noop_flag, lists, **numbers)

    return call


SURFACES: dict[str, tuple[Any, Any, Any, int, dict[str, Any]]] = {
    "adam": (cpu.FusedAdamBuilder, FusedAdam, on_lists("multi_tensor_adam", 4), 4, ADAM),
    "lion": (
        cpu.FusedLionBuilder, FusedLion, on_lists("multi_tensor_lion", 3), 3,
        {**BETAS, "lr": 0.1, "step": 1, "weight_decay": 0.1},
    ),
    "adagrad": (
        cpu.FusedAdagradBuilder, FusedAdagrad, on_lists("multi_tensor_adagrad", 3), 3,
        {"lr": 0.1, "epsilon": 1e-8, "mode": 0, "weight_decay": 0.1},
    ),
    "lamb": (cpu.FusedLambBuilder, FusedLamb, lamb, 4, LAMB),
    "adam8bit": (cpu.Adam8bitBuilder, Adam8bit, adam8bit, 2, {**ADAM, "seed": 3}),
    "lion8bit": (
        cpu.Lion8bitBuilder, Lion8bit, lion8bit, 2,
        {**BETAS, "lr": 0.1, "step": 1, "weight_decay": 0.1, "seed": 3},
    ),
}  # fmt: skip


@pytest.fixture(params=[(name, rung) for name in SURFACES for rung in ("native", "reference")],
                ids="-".join)  # fmt: skip
def surface(request: pytest.FixtureRequest) -> tuple[Call, int, dict[str, Any]]:
    name, rung = request.param
    builder, reference, bind, count, numbers = SURFACES[name]
    return bind(builder().load() if rung == "native" else reference()), count, numbers


BAD = [
    ("step", 2**63), ("step", 2**64 + 1), ("step", 2**53 + 1), ("step", HUGE), ("step", True),
    ("step", UNPRINTABLE), ("step", 1.0), ("step", torch.tensor(1)), ("step", np.float64(1)),
    ("lr", HUGE), ("lr", UNPRINTABLE), ("lr", Fraction(10) ** 400), ("lr", True), ("lr", np.True_),
    ("lr", torch.tensor(0.1)), ("lr", np.array([0.1])), ("lr", 1j), ("lr", "0.1"), ("lr", None),
    ("weight_decay", HUGE), ("epsilon", HUGE), ("eps", HUGE), ("decay", -HUGE),
    ("beta1", HUGE), ("beta2", True), ("beta1", np.float32("nan")), ("max_coeff", HUGE),
    ("mode", torch.tensor([0, 1])), ("mode", 0.5), ("mode", None), ("mode", 2**64),
    ("bias_correction", "no"), ("bias_correction", torch.tensor([1, 0])), ("bias_correction", 2),
    ("bias_correction", None), ("seed", 2**64), ("seed", -1), ("seed", 1.0), ("seed", UNPRINTABLE),
    ("grad_scale", 1e-50), ("grad_scale", 1e-39), ("grad_scale", 1e39), ("grad_scale", HUGE),
    ("grad_scale", 0.0), ("grad_scale", math.nan), ("grad_scale", torch.tensor(1.0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda v: str(type(v).__name__))
def test_bad_numbers(surface: tuple[Call, int, dict[str, Any]], name: str, value: Any) -> None:
    call, count, numbers = surface
    if name not in numbers:
        return
    given = tensors(count)
    with pytest.raises((TypeError, ValueError), match=rf"^{name} "):
        call(given, **{**numbers, name: value})
    assert all(map(torch.equal, given, tensors(count)))


GOOD = [
    ("step", np.int64(1)), ("step", 2**53), ("lr", np.float32(0.1)), ("lr", np.float64(0.1)),
    ("lr", np.int64(1)), ("lr", Fraction(1, 10)), ("lr", 1), ("bias_correction", np.True_),
    ("bias_correction", 1), ("mode", np.int32(0)), ("mode", False), ("grad_scale", 2.0**-126),
    ("grad_scale", 65536), ("lr", 1e300), ("lr", 1e-300), ("weight_decay", 1e39),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), GOOD, ids=lambda v: str(type(v).__name__))
@pytest.mark.parametrize("op", SURFACES)
def test_odd_numbers_are_taken_alike(op: str, name: str, value: Any) -> None:
    builder, reference, bind, count, numbers = SURFACES[op]
    if name not in numbers:
        return
    results = []
    for loaded in (builder().load(), reference()):
        given = tensors(count)
        bind(loaded)(given, **{**numbers, name: value})
        results.append(given)
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=0.0, equal_nan=True)


WIDE = [torch.tensor([value], dtype=dtype) for value, dtype in (
    (2**32, torch.int64), (-(2**40), torch.int64), (2**63, torch.uint64), (1, torch.bool),
    (256, torch.int32), (1, torch.uint8),
)]  # fmt: skip


@pytest.mark.parametrize("flag", WIDE, ids=str)
def test_every_flag_that_is_not_0_skips(
    surface: tuple[Call, int, dict[str, Any]], flag: Tensor
) -> None:
    call, count, numbers = surface
    if "grad_scale" in numbers:
        return
    given = tensors(count)
    call(given, noop_flag=flag, **numbers)
    assert all(map(torch.equal, given, tensors(count)))
    call(given, noop_flag=torch.zeros_like(flag), **numbers)
    assert not all(map(torch.equal, given, tensors(count)))


@pytest.mark.parametrize("flag", [0, True, torch.ones(1), torch.ones(1) * 1j, [1]], ids=str)
def test_what_is_no_flag(surface: tuple[Call, int, dict[str, Any]], flag: Any) -> None:
    call, count, numbers = surface
    if "grad_scale" not in numbers:
        with pytest.raises((TypeError, ValueError), match=r"^noop_flag "):
            call(tensors(count), noop_flag=flag, **numbers)


@pytest.mark.parametrize("name", ["p", "p_copy", "m", "v", "g"])
def test_lamb_names_what_is_no_tensor(name: str) -> None:
    for op in (cpu.FusedLambBuilder().load(), FusedLamb()):
        for value in (None, 3.0, "x", np.ones(5)):
            if name == "p_copy" and value is None:
                continue
            with pytest.raises(TypeError, match=rf"^{name} is a "):
                lamb(op)(tensors(4), **{**LAMB, name: value})


def test_lamb_refuses_what_does_not_fit() -> None:
    for op in (cpu.FusedLambBuilder().load(), FusedLamb()):
        given = tensors(4)
        given[1] = torch.zeros(6)
        with pytest.raises(ValueError, match=r"^exp_avgs has shape"):
            lamb(op)(given, **LAMB)
        half = torch.ones(5, dtype=torch.bfloat16)
        given = [tensor.bfloat16() for tensor in tensors(4)]
        with pytest.raises(TypeError, match=r"^masters\[0\] is torch.bfloat16; expected float32"):
            lamb(op)(given, **{**LAMB, "p_copy": half})


def test_lists_that_are_none() -> None:
    for op in (cpu.FusedAdamBuilder().load(), FusedAdam()):
        for listed in (None, torch.ones(3, 2), 5):
            lists: list[Any] = [[one] for one in tensors(4)]
            lists[2] = listed
            with pytest.raises(TypeError, match=r"tensor_lists has a .* for exp_avg;"):
                op.multi_tensor_adam(1, None, lists, **ADAM)


def test_single_tensors_are_named_as_the_caller_knows_them() -> None:
    for op in (cpu.CPUAdamBuilder().load(), CPUAdam()):
        op.create_adam(71, 0.1, 0.9, 0.99, 1e-8, 0.0, True, False)
        numbers = {key: value for key, value in ADAM.items() if key != "mode"}
        for step in (2**63, HUGE):
            with pytest.raises(ValueError, match=r"^step "):
                op.adam_update(71, **{**numbers, "step": step}, params=torch.ones(2),
                               grads=torch.ones(2), exp_avg=torch.ones(2),
                               exp_avg_sq=torch.ones(2))  # fmt: skip
        with pytest.raises(ValueError, match=r"^exp_avg has shape"):
            op.adam_update(71, **numbers, params=torch.ones(2), grads=torch.ones(2),
                           exp_avg=torch.ones(3), exp_avg_sq=torch.ones(2))  # fmt: skip
        with pytest.raises(ValueError, match=r"^beta1 is 1e-60; a step that discards"):
            op.adam_rollback(71, **{**numbers, "beta1": 1e-60}, params=torch.ones(2),
                             grads=torch.ones(2), exp_avg=torch.ones(2),
                             exp_avg_sq=torch.ones(2))  # fmt: skip
        with pytest.raises(TypeError, match=r"^adamw_mode is 'yes'"):
            op.create_adam(72, 0.1, 0.9, 0.99, 1e-8, 0.0, "yes", False)
        op.destroy_adam(71)
    for lion in (cpu.CPULionBuilder().load(), CPULion()):
        lion.create_lion(71, 0.1, 0.9, 0.99, 0.0, False)
        with pytest.raises(ValueError, match=r"^exp_avg has shape"):
            lion.lion_update(71, 1, 0.1, 0.9, 0.99, 0.0, torch.ones(2), torch.ones(2),
                             torch.ones(3))  # fmt: skip
        lion.destroy_lion(71)
    for adagrad in (cpu.CPUAdagradBuilder().load(), CPUAdagrad()):
        adagrad.create_adagrad(71, 0.1, 1e-8, 0.0, False)
        with pytest.raises(ValueError, match=r"^step "):
            adagrad.adagrad_update(71, 2**63, 0.1, 1e-8, 0.0, *tensors(3))
        adagrad.destroy_adagrad(71)


@pytest.mark.parametrize("rung", ["native", "reference"])
@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"step": 2**53 + 1}, "step"), ({"step": 0}, "step"), ({"lr": math.nan}, "lr"),
        ({"lr": -1.0}, "lr"), ({"weight_decay": math.inf}, "weight_decay"),
        ({"flags": 1 << 20}, "flags"), ({"rounding": "up"}, "rounding"),
    ],
)  # fmt: skip
def test_the_dispatchers_op(case: Case, rung: str, changed: dict[str, Any], error: str) -> None:
    op = case.builder().load() if rung == "native" else case.reference()
    lists, before = (case.lists([(30,)]) for _ in range(2))
    with pytest.raises(ValueError, match=f"^{error} "):
        hyper = case.hyper()
        for name, value in changed.items():
            setattr(hyper, name, value)
        op.kernel.family.dispatch(op.kernel.key, lists, hyper)
    assert all(map(torch.equal, tensors_of(lists), tensors_of(before)))


def test_flags_that_ask_for_what_is_not_given() -> None:
    case = CASES["adam"]
    for op in (case.builder().load(), case.reference()):
        for flags, message in ((4, "max_exp_avg_sqs is missing"), (16, "beta1 is 0; a step")):
            lists = case.lists([(30,)])
            with pytest.raises(ValueError, match=message):
                op.kernel.family.dispatch(op.kernel.key, lists, case.hyper(flags=flags, beta1=0.0))


def test_a_rate_of_double_precision_is_rounded_alike(case: Case) -> None:
    results = []
    for op in (case.builder().load(), case.reference()):
        lists = case.lists([(300,)])
        rate = torch.tensor(0.1, dtype=torch.float64)
        scale = torch.tensor(3.3, dtype=torch.float64)
        op.kernel.run(lists, case.hyper(lr_tensor=rate, grad_scale=scale))
        results.append(lists.params[0])
    torch.testing.assert_close(*results, rtol=3e-7 if case is CASES["lamb"] else 0.0, atol=0.0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"betas": 0.9}, r"^betas is 0\.9"), ({"betas": (0.9,)}, "^betas is"),
        ({"betas": (0.9, 0.99, 0.999)}, "^betas is"), ({"betas": ("0.9", 0.99)}, r"^betas\[0\] is"),
        ({"betas": (True, 0.9)}, r"^betas\[0\] is"), ({"betas": (0.9, HUGE)}, r"^betas\[1\] is"),
        ({"betas": (torch.ones(2), 0.9)}, r"^betas\[0\] has 2"), ({"betas": None}, "^betas is"),
        ({"lr": HUGE}, "^lr is"), ({"lr": torch.tensor(1j)}, "^lr has dtype"),
        ({"weight_decay": UNPRINTABLE}, "^weight_decay is an int of"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cls", [AdamOptimizer, LionOptimizer])
def test_optimizers_name_their_arguments(cls: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        cls([nn.Parameter(torch.ones(1))], **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lamb_clips_by_a_norm_of_full_precision(dtype):
    """In float16 a norm ends at 65504, and in 16 bits it has three digits."""
    generator = torch.Generator().manual_seed(3)
    grads = [(torch.rand(size, generator=generator) * 4000).to(dtype) for size in (999, 501)]
    norm = torch.cat([grad.double() for grad in grads]).norm().item()
    assert norm > 65504
    params = [torch.nn.Parameter(torch.ones_like(grad)) for grad in grads]
    optimizer = LambOptimizer(params, lr=0.1, max_grad_norm=1.0, betas=(0.5, 0.9))
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad.clone()
    optimizer.step()
    for param, grad in zip(params, grads, strict=True):
        wanted = (grad.double() / norm * 0.5).float()
        got = optimizer.state[param]["exp_avg"].float()
        torch.testing.assert_close(got, wanted, rtol=2e-5, atol=0)


@pytest.mark.parametrize("rung", ["native", "reference"])
@pytest.mark.parametrize("others", [torch.float64, torch.float32, torch.bfloat16])
def test_lamb_clips_doubles_in_double(
    monkeypatch: pytest.MonkeyPatch, others: torch.dtype, rung: str
) -> None:
    """A scale that went through float32 has half of the digits, as has a norm taken in it."""
    monkeypatch.setenv("ACCEL_OPS", rung)
    generator = torch.Generator().manual_seed(3)
    params = [torch.nn.Parameter(torch.ones(50, dtype=kind)) for kind in (torch.float64, others)]
    for param in params:
        param.grad = torch.randn(50, generator=generator).to(param.dtype)
    grads = [param.grad.double() for param in params]  # type: ignore[union-attr]
    optimizer = LambOptimizer(params, lr=0.1, max_grad_norm=0.7, betas=(0.5, 0.9))
    optimizer.step()
    wanted = grads[0] * 0.5 / ((torch.cat(grads).norm() + 1e-6) / 0.7)
    torch.testing.assert_close(optimizer.state[params[0]]["exp_avg"], wanted, rtol=1e-13, atol=0)


def test_what_lamb_says_of_its_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU moments have the reference's bits, and ratios and parameters all but the last."""
    found = []
    for rung in ("native", "reference"):
        monkeypatch.setenv("ACCEL_OPS", rung)
        make = torch.Generator().manual_seed(7)
        params = [nn.Parameter(torch.randn(size, generator=make)) for size in (5, 300, 5000)]
        optimizer = LambOptimizer(params, lr=0.1, weight_decay=0.1)
        for _ in range(3):
            for param in params:
                param.grad = torch.randn(param.shape, generator=make)
            optimizer.step()
        found.append((params, [optimizer.state[param] for param in params]))
    (params, states), (others, wanted) = found
    torch.testing.assert_close(params, others, rtol=1e-5, atol=1e-6)
    for state, other in zip(states, wanted, strict=True):
        assert all(torch.equal(state[key], other[key]) for key in ("exp_avg", "exp_avg_sq"))
