"""Sums in an order that varies, if a user has asked for none; run in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from late_backend import LateAccelerator
from torch import nn

import accel
from accel import optim


@pytest.fixture(autouse=True)
def late_accelerator() -> Iterator[None]:
    accel.set_accelerator(LateAccelerator())
    yield
    torch.use_deterministic_algorithms(False)
    accel.set_accelerator(None)
    torch.accelerator.synchronize()


def stepped(cls: type[torch.optim.Optimizer], device: str) -> nn.Parameter:
    param = nn.Parameter(torch.ones(8, device=device))
    param.grad = torch.ones_like(param)
    optimizer = cls([param], lr=0.1)
    optimizer.step()
    return param


def test_lamb_on_a_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    param = nn.Parameter(torch.ones(8, device="sim"))
    param.grad = torch.ones_like(param)
    optimizer = optim.FusedLamb([param], lr=0.1)
    optimizer.step()
    before = param.detach().cpu()
    torch.use_deterministic_algorithms(True)
    with pytest.raises(RuntimeError, match=r"in an order that varies.*ACCEL_OPS=reference"):
        optimizer.step()
    assert torch.equal(param.detach().cpu(), before)
    torch.use_deterministic_algorithms(True, warn_only=True)
    with pytest.warns(UserWarning, match="in an order that varies"):
        optimizer.step()
    assert not torch.equal(param.detach().cpu(), before)
    monkeypatch.setenv("ACCEL_OPS", "reference")
    torch.use_deterministic_algorithms(True)
    stepped(optim.FusedLamb, "sim")


def test_all_others_step() -> None:
    torch.use_deterministic_algorithms(True)
    stepped(optim.FusedAdam, "sim")
    stepped(optim.FusedLamb, "cpu")
