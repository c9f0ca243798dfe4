"""`FusedLion`, `CPULion`, `FusedAdagrad`, `CPUAdagrad`, `FusedLamb`, `Adam8bit`: as torch's."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from family_cases import OPTIMIZERS
from torch import nn

from accel.errors import Unsupported
from accel.optim import (
    Adam8bit,
    CPUAdagrad,
    CPUAdam,
    CPULion,
    FusedAdagrad,
    FusedAdam,
    FusedLamb,
    FusedLion,
)

ALL = [cls for cls in OPTIMIZERS if cls not in (FusedAdam, CPUAdam)]


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(24, 40), nn.Tanh(), nn.Linear(40, 10)).to(dtype)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, start: int = 0
) -> list[float]:
    losses = []
    dtype = next(model.parameters()).dtype
    for index in range(start, start + steps):
        data = torch.randn(8, 24, generator=torch.Generator().manual_seed(index)).to(dtype)
        optimizer.zero_grad()
        loss = (model(data) - 1).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    return losses


def assert_same(left: nn.Module, right: nn.Module, **tolerance: float) -> None:
    for ours, theirs in zip(left.parameters(), right.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr_decay": 0.1, "weight_decay": 0.1},
        {"initial_accumulator_value": 0.5, "maximize": True},
    ],
)
def test_adagrad_is_torchs_and_back(options: dict[str, Any]) -> None:
    plain, model = network(), network()
    train(plain, torch.optim.Adagrad(plain.parameters(), lr=0.05, **options), 9)
    first = CPUAdagrad(model.parameters(), lr=0.05, **options)
    train(model, first, 3)
    second = torch.optim.Adagrad(model.parameters(), lr=9.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(model, second, 3, start=3)
    third = CPUAdagrad(model.parameters(), lr=9.0)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    train(model, third, 3, start=6)
    assert_same(model, plain)


def test_lion_by_hand() -> None:
    ours, theirs = nn.Parameter(torch.randn(50)), None
    optimizer = FusedLion([ours], lr=0.1, betas=(0.5, 0.9), weight_decay=0.2)
    theirs, moment = ours.detach().clone(), torch.zeros(50)
    for index in range(5):
        ours.grad = torch.randn(50, generator=torch.Generator().manual_seed(index))
        theirs = theirs * (1 - 0.02) - 0.1 * torch.sign(0.5 * moment + 0.5 * ours.grad)
        moment = 0.9 * moment + 0.1 * ours.grad
        optimizer.step()
    torch.testing.assert_close(ours.detach(), theirs)
    assert optimizer.state[ours]["step"] == 5


def test_lamb_scales_by_whole_tensors() -> None:
    params = [
        nn.Parameter(torch.randn(30, 7)),
        nn.Parameter(torch.zeros(30)),
        nn.Parameter(torch.empty(0)),
    ]
    optimizer = FusedLamb(params, lr=0.1, weight_decay=0.01)
    for param in params:
        param.grad = torch.ones_like(param)
    before = [param.detach().clone() for param in params]
    optimizer.step()
    weight, bias, nothing = optimizer.get_lamb_coeffs()
    assert bias == nothing == 1.0
    update = 0.1 / 0.001**0.5 + 0.01 * before[0]
    assert weight == pytest.approx((before[0].norm() / update.norm()).item(), rel=1e-4)


def test_lamb_clips_the_norm_of_a_group() -> None:
    results = []
    for limit, factor in ((1.0, 100.0), (0.0, None)):
        params = [nn.Parameter(torch.ones(30)), nn.Parameter(torch.ones(7))]
        grads = [torch.full((30,), 3.0), torch.full((7,), 4.0)]
        norm = torch.cat(grads).norm()
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad * factor if factor else grad / norm
        FusedLamb(params, lr=0.1, max_grad_norm=limit).step()
        results.append(torch.cat([param.detach() for param in params]))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_files_go_on(cls: Any, dtype: torch.dtype, copied: Callable) -> None:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        return cls(model.parameters(), lr=1e-2, weight_decay=0.1, seed=3, rounding="stochastic",
                   master_dtype=torch.float32 if cls is FusedLion else None)  # fmt: skip

    plain, model = network(dtype), network(dtype)
    expected = train(plain, make(plain), 9)
    optimizer = make(model)
    found = train(model, optimizer, 3)
    model, optimizer = copied((model, optimizer))
    found += train(model, optimizer, 3, start=3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer = make(model)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
    found += train(model, optimizer, 3, start=6)
    assert found == expected
    assert_same(model, plain, rtol=0, atol=0)


@pytest.mark.parametrize("cls", ALL)
def test_scaler_skips_overflow(cls: Any) -> None:
    param = nn.Parameter(torch.ones(100))
    optimizer = cls([param], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for factor in (1.0, float("inf"), 1.0):
        before = param.detach().clone()
        optimizer.zero_grad()
        scaler.scale((param * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(param, before) == (factor != 1.0)
    assert optimizer.state[param]["step"] == 2


def test_8bit_moments_take_a_quarter_and_train_alike() -> None:
    plain, coded = network(), network()
    adam = FusedAdam(plain.parameters(), lr=3e-3)
    eight = Adam8bit(coded.parameters(), lr=3e-3, seed=1)
    expected, found = train(plain, adam, 150), train(coded, eight, 150)
    assert found[-1] < 0.3 * found[0]
    assert sum(found[-20:]) == pytest.approx(sum(expected[-20:]), rel=0.05)

    def size(optimizer: torch.optim.Optimizer) -> int:
        return sum(value.nbytes for state in optimizer.state.values() for value in state.values())

    assert size(eight) < 0.3 * size(adam)


@pytest.mark.parametrize("torchs", [False, True])
def test_8bit_moments_to_and_from_floats(torchs: bool) -> None:
    model = network()
    cls = torch.optim.AdamW if torchs else FusedAdam
    first = cls(model.parameters(), lr=1e-3)
    train(model, first, 5)
    eight = Adam8bit(model.parameters(), lr=1e-3)
    eight.load_state_dict(copy.deepcopy(first.state_dict()))
    floats = [first.state[param]["exp_avg_sq"].clone() for param in model.parameters()]
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    eight.step()
    assert all(state["exp_avg"].dtype == torch.uint8 for state in eight.state.values())
    back = cls(model.parameters(), lr=1e-3)
    back.load_state_dict(eight.float_state_dict())
    for param, old in zip(model.parameters(), floats, strict=True):
        state = back.state[param]
        assert state.keys() == first.state[param].keys()
        assert state["step"] == 6 and state["exp_avg_sq"].dtype == torch.float32
        # To nearest once, then stochastically: 1/16 and 1/8 of the value.
        torch.testing.assert_close(state["exp_avg_sq"], 0.999 * old, rtol=0.2, atol=0)
    train(model, back, 2, start=6)


def test_8bit_moments_follow_a_parameter_into_another_layout() -> None:
    model = nn.Conv2d(16, 8, 3)
    optimizer = Adam8bit(model.parameters(), seed=2)
    data = torch.randn(2, 16, 9, 9)
    for layout in (torch.contiguous_format, torch.channels_last, torch.contiguous_format):
        model.to(memory_format=layout)
        optimizer.zero_grad()
        before = optimizer.float_state_dict()["state"]
        model(data).sum().backward()
        optimizer.step()
        after = optimizer.float_state_dict()["state"]
        if before:
            strides = optimizer.state[model.weight]["exp_avg"].stride()
            assert strides == model.weight.stride()
            ratio = after[0]["exp_avg_sq"] / (0.999 * before[0]["exp_avg_sq"]).clamp(min=1e-30)
            assert (ratio > 0.85).all()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda p: FusedLamb(p, amsgrad=True), Unsupported, "amsgrad"),
        (lambda p: CPUAdagrad(p, amsgrad=True), Unsupported, "amsgrad"),
        (lambda p: FusedAdagrad(p, adagrad_w_mode=True), Unsupported, "adagrad_w_mode"),
        (lambda p: Adam8bit(p, amsgrad=True), Unsupported, "amsgrad"),
        (lambda p: Adam8bit(p, state_dtype=torch.float32), Unsupported, "state_dtype"),
        (lambda p: FusedLion(p, differentiable=True), Unsupported, "differentiable"),
        (lambda p: FusedLion(p, betas=(1.0, 0.9)), ValueError, r"betas\[0\]"),
        (lambda p: FusedLamb(p, min_coeff=2.0, max_coeff=1.0), ValueError, "max_coeff"),
        (lambda p: FusedLamb(p, max_grad_norm=-1.0), ValueError, "max_grad_norm"),
        (lambda p: CPUAdagrad(p, lr_decay=-1.0), ValueError, "lr_decay"),
        (lambda p: CPUAdagrad(p, initial_accumulator_value=-1.0), ValueError, "initial_acc"),
    ],
)
def test_constructors_refuse_by_name(make: Callable, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make([nn.Parameter(torch.ones(1))])


def test_8bit_moments_of_double_parameters_are_refused() -> None:
    param = nn.Parameter(torch.ones(3, dtype=torch.float64))
    param.grad = torch.ones_like(param)
    optimizer = Adam8bit([param])
    with pytest.raises(TypeError, match=r"params\[0\] is torch.float64"):
        optimizer.step()
    assert not optimizer.state


def test_argument_order_of_the_classes_they_stand_in_for() -> None:
    param = [nn.Parameter(torch.ones(1))]
    lion = CPULion(param, 0.5, (0.1, 0.2), 0.3, False).param_groups[0]
    assert (lion["lr"], lion["betas"], lion["weight_decay"]) == (0.5, (0.1, 0.2), 0.3)
    assert lion["state_dtype"] == "param"
    adagrad = CPUAdagrad(param, 0.5, 1e-3, 0.3, False, False).param_groups[0]
    assert (adagrad["lr"], adagrad["eps"], adagrad["weight_decay"]) == (0.5, 1e-3, 0.3)
    lamb = FusedLamb(param, 0.5, False, (0.1, 0.2), 1e-3, True, 0.3, 2.0, 5.0, 0.1)
    group = lamb.param_groups[0]
    assert (group["eps_inside_sqrt"], group["max_coeff"], group["min_coeff"]) == (True, 5.0, 0.1)
