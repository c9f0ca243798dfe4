"""`CPUAdam` for parameters on a device: right, and each wait is needed; in a process of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from late_training import (
    LATE_S,
    assert_same,
    copies_are_late,
    late_accelerator,
    parameters,
    train,
)
from simulator.library import late
from torch import nn

from accel.optim import CPUAdam
from accel.optim.offload.transfers import Transfers

__all__ = ["late_accelerator"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_like_parameters_on_the_host(dtype: torch.dtype, amsgrad: bool) -> None:
    options: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1, "amsgrad": amsgrad}
    there, here = parameters("sim", dtype), parameters("cpu", dtype)
    away = CPUAdam(there, **options)
    train(there, away, 3)
    home = CPUAdam(here, master_dtype=torch.float32, **options)
    train(here, home, 3)
    assert_same(there, here)
    for param in there:
        state = away.state[param]
        assert {value.device.type for value in state.values()} == {"cpu"}
        assert state["step"] == 3 and state["master"].dtype == torch.float32

    again = CPUAdam(there, **options)
    again.load_state_dict(copy.deepcopy(away.state_dict()))
    assert all(v.device.type == "cpu" for state in again.state.values() for v in state.values())
    train(there, again, 2, start=3)
    train(here, home, 2, start=3)
    assert_same(there, here)


def test_parameters_here_and_there_and_gradients_that_come_and_go() -> None:
    there, here = parameters("sim", torch.float32), parameters("cpu", torch.float32)
    twins = [*parameters("cpu", torch.float32), *parameters("cpu", torch.float32)]
    ours, theirs = CPUAdam([*there, *here], lr=0.1), CPUAdam(twins, lr=0.1)
    for present in ({0, 3, 9}, {0, 1, 2, 3, 4, 5, 6, 7}, set(), {11, 5}, {11, 5}):
        for index, (param, twin) in enumerate(zip([*there, *here], twins, strict=True)):
            grad = torch.full(param.shape, index + 1.0) if index in present else None
            twin.grad = grad
            param.grad = None if grad is None else grad.to(param.device)
        ours.step()
        theirs.step()
    assert_same([*there, *here], twins)


def test_one_norm_of_gradients_here_and_there() -> None:
    there, here = parameters("sim", torch.float32), parameters("cpu", torch.float32)
    twins = [*parameters("cpu", torch.float32), *parameters("cpu", torch.float32)]
    options: dict[str, Any] = {"lr": 0.1, "max_grad_norm": 0.5}
    ours, theirs = CPUAdam([*there, *here], **options), CPUAdam(twins, **options)
    for _ in range(3):
        for index, (param, twin) in enumerate(zip([*there, *here], twins, strict=True)):
            twin.grad = torch.full(param.shape, index + 1.0)
            param.grad = twin.grad.to(param.device)
        ours.step()
        theirs.step()
    assert_same([*there, *here], twins)
    assert ours.grad_norm is not None and theirs.grad_norm is not None
    torch.testing.assert_close(ours.grad_norm.cpu(), theirs.grad_norm)


def test_what_is_replaced_is_noticed() -> None:
    there = parameters("sim", torch.float32)
    optimizer = CPUAdam(there, lr=0.1)
    train(there, optimizer, 1)
    there[0].data = torch.zeros(30, 70, device="sim")
    optimizer.state[there[0]]["master"] = torch.zeros(30, 70)
    train(there, optimizer, 1, start=1)
    assert 0 < there[0].abs().max() < 0.3


def test_overflow_is_skipped() -> None:
    there = parameters("sim", torch.float32)
    before = [param.detach().cpu() for param in there]
    optimizer = CPUAdam(there, lr=0.1)
    optimizer.found_inf = torch.ones(1, device="sim")
    train(there, optimizer, 1)
    assert all(
        torch.equal(param.detach().cpu(), old) for param, old in zip(there, before, strict=True)
    )
    assert all(optimizer.state[param]["step"] == 0 for param in there)


def test_what_cannot_be_stepped_is_named() -> None:
    there = nn.Parameter(torch.zeros(40, device="sim")[::2])
    there.grad = torch.zeros(20, device="sim")
    with pytest.raises(ValueError, match=r"params\[0\] is not dense"):
        CPUAdam([there]).step()


def gradients_are_late() -> None:
    there, here = parameters("sim", torch.float32), parameters("cpu", torch.float32)
    optimizers = CPUAdam(there, lr=0.1), CPUAdam(here, lr=0.1)
    train(there, optimizers[0], 1)
    train(here, optimizers[1], 1)
    stream = torch.sim.Stream()
    with late(LATE_S, stream), torch.sim.stream(stream):
        train(there, optimizers[0], 1, start=1)
        stream.synchronize()
    train(here, optimizers[1], 1, start=1)
    assert_same(there, here)


def nothing(*_: object, **__: object) -> None:
    return None


@pytest.mark.parametrize("case", [gradients_are_late, copies_are_late])
def test_as_it_is(case: Callable[[], None]) -> None:
    case()


@pytest.mark.parametrize(
    ("case", "wait"),
    [
        (gradients_are_late, "begin"),
        (copies_are_late, "wait_until_usable"),
        (copies_are_late, "end"),
    ],
)
def test_every_wait_is_needed(
    case: Callable[[], None], wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transfers, wait, nothing)
    with pytest.raises(AssertionError):
        case()
