"""Training on a device whose copies are late."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from late_backend import LateAccelerator
from simulator.library import late
from torch import Tensor, nn

import accel
from accel.optim import CPUAdam
from accel.optim.offload import stepping

LATE_S = 0.01


@pytest.fixture(autouse=True)
def late_accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stepping, "BUCKET", 1000)
    accel.set_accelerator(LateAccelerator())
    yield
    accel.set_accelerator(None)
    torch.accelerator.synchronize()


def parameters(device: str, dtype: torch.dtype) -> list[nn.Parameter]:
    make = torch.Generator().manual_seed(1)
    shapes = [(30, 70), (5,), (0,), (999,), (4, 6, 5, 3), (2500,)]
    values = [torch.randn(shape, generator=make).to(dtype) for shape in shapes]
    values[4] = values[4].contiguous(memory_format=torch.channels_last)
    return [nn.Parameter(value.to(device)) for value in values]


def train(
    params: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: int, start: int = 0
) -> None:
    for index in range(start, start + steps):
        make = torch.Generator().manual_seed(index)
        for param in params:
            grad = torch.randn(param.shape, generator=make)
            param.grad = (grad.to(param.device) * 2).to(param.dtype)
        optimizer.step()


def assert_same(ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> None:
    torch.accelerator.synchronize()
    for left, right in zip(ours, theirs, strict=True):
        assert torch.equal(left.detach().cpu(), right.detach().cpu())


def copies_are_late() -> None:
    there, here = parameters("sim", torch.float32), parameters("cpu", torch.float32)
    results: list[Tensor] = []
    with late(0.002):
        optimizer = CPUAdam(there, lr=0.1)
        for step in range(2):
            train(there, optimizer, 1, start=step)
            results.append(torch.cat([param.detach().reshape(-1) for param in there]))
        torch.sim.current_stream().synchronize()
    twin = CPUAdam(here, lr=0.1)
    for step, found in enumerate(results):
        train(here, twin, 1, start=step)
        expected = torch.cat([param.detach().reshape(-1) for param in here])
        torch.accelerator.synchronize()
        assert torch.equal(found.cpu(), expected)
