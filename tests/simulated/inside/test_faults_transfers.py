"""`CPUAdam`'s copies between device and host: few of them, and right; in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from late_training import assert_same, copies_are_late, late_accelerator, parameters, train
from torch import Tensor, nn

from accel.optim import CPUAdam
from accel.optim.offload import stepping as offload
from accel.optim.offload import transfers

__all__ = ["late_accelerator"]

MANY = 300


@pytest.fixture
def crossings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every copy between host and device, as where it goes."""
    seen: list[str] = []
    copy = torch.Tensor.copy_

    def counted(self: Tensor, source: Tensor, *args: Any, **options: Any) -> Tensor:
        if self.device.type != source.device.type:
            seen.append(self.device.type)
        return copy(self, source, *args, **options)

    monkeypatch.setattr(torch.Tensor, "copy_", counted)
    yield seen


def test_a_bucket_crosses_in_one_copy_each_way(crossings: list[str]) -> None:
    there = [nn.Parameter(torch.full((index % 7 + 1,), 1.0, device="sim")) for index in range(MANY)]
    here = [nn.Parameter(param.detach().cpu()) for param in there]
    optimizers = CPUAdam(there, lr=0.1), CPUAdam(here, lr=0.1)
    for step in range(3):
        for param, twin in zip(there, here, strict=True):
            twin.grad = torch.full_like(twin, step + 1.0)
            param.grad = torch.full_like(param, step + 1.0)
        crossings.clear()
        optimizers[0].step()
        buckets = len([*offload.cut([param.numel() for param in there], offload.BUCKET)])
        assert buckets > 3
        assert sorted(crossings) == ["cpu"] * buckets + ["sim"] * buckets
        optimizers[1].step()
    assert_same(there, here)


@pytest.mark.parametrize("small", [0, 6, 900, 10_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pieces_that_cross_alone_and_together(
    small: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "SMALL", small, raising=False)
    there, here = parameters("sim", dtype), parameters("cpu", dtype)
    train(there, CPUAdam(there, lr=1e-2), 3)
    train(here, CPUAdam(here, lr=1e-2, master_dtype=torch.float32), 3)
    assert_same(there, here)
    copies_are_late()


def test_large_pieces_need_no_memory_on_the_device() -> None:
    runs = [*transfers._runs([(0, transfers.SMALL), (transfers.SMALL, 3 * transfers.SMALL)])]
    assert [(run.first, run.last) for run in runs] == [(0, 1), (1, 2)]
