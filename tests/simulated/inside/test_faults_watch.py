"""Native watches over tensors that lie on a device; run in a process of its own."""

from __future__ import annotations

import copy
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from late_backend import LateAccelerator
from torch import Tensor, nn

import accel
from accel import optim
from accel.ops.native import NativeLibrary
from accel.ops.optimizers.prepared import host_watch

COUNT = 30
KEYS = ("param", "grad", "exp_avg", "step")


@pytest.fixture(autouse=True)
def late_accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Kernels of this device are those of the host; others' libraries have none of its functions.
    monkeypatch.setattr(NativeLibrary, "watcher", None)
    accel.set_accelerator(LateAccelerator())
    yield
    accel.set_accelerator(None)
    torch.accelerator.synchronize()


def parameters(device: str) -> list[nn.Parameter]:
    make = torch.Generator().manual_seed(1)
    return [
        nn.Parameter(torch.randn(3 + index % 5, 2, generator=make).to(device))
        for index in range(COUNT)
    ]


def give(params: list[nn.Parameter], seed: int) -> None:
    make = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=make).to(param.device)


class Watched:
    """An optimizer that a native watch serves from now on, and what the watch has said."""

    def __init__(self, params: list[nn.Parameter], cls: Any = optim.FusedAdam) -> None:
        self.params, self.optimizer = params, cls(params, lr=0.01)
        self.step(0)
        self.step(1)
        self.watch = self.optimizer._prepared[0]._native
        assert self.watch is not None
        self.told: list[bool] = []
        take = self.watch.take

        def watched(*given: Any) -> bool:
            self.told.append(take(*given))
            return self.told[-1]

        self.watch.take = watched

    def step(self, seed: int) -> None:
        give(self.params, seed)
        self.optimizer.step()

    def tensor(self, key: str, index: int) -> Tensor:
        param = self.params[index]
        if key == "grad":
            assert param.grad is not None
            return param.grad
        return param if key == "param" else self.optimizer.state[param][key]


@pytest.mark.parametrize(
    "cls", [optim.FusedAdam, optim.FusedLion, optim.FusedAdagrad, optim.FusedLamb, optim.Adam8bit]
)
def test_the_same_steps_as_on_the_host(cls: Any) -> None:
    there, here = Watched(parameters("sim"), cls), Watched(parameters("cpu"), cls)
    assert there.watch._alive[0] is host_watch.host_watcher()
    for seed in range(2, 6):
        there.step(seed)
        here.step(seed)
    assert there.told == here.told == [True] * 4
    torch.accelerator.synchronize()
    for left, right in zip(there.params, here.params, strict=True):
        assert torch.equal(left.detach().cpu(), right.detach())


def test_devices_of_a_group_may_differ() -> None:
    params = [*parameters("sim:0"), *parameters("sim:1"), *parameters("cpu")]
    watched = Watched(params)
    numbers = [*watched.watch._alive[4]["devices"]]
    external, host = 12, 1
    assert numbers == [external, 0] * COUNT + [external, 1] * COUNT + [host, 0] * COUNT
    watched.step(2)
    assert watched.told == [True]


def moved_to(device: str) -> Callable[[Tensor], None]:
    def move(tensor: Tensor) -> None:
        tensor.data = tensor.data.to(device)

    return move


def smaller(tensor: Tensor) -> None:
    tensor.data = tensor.data[..., :1] if tensor.ndim else tensor.data.expand(2)


def elsewhere(tensor: Tensor) -> None:
    tensor.data = tensor.data.clone()


def of_another_type(tensor: Tensor) -> None:
    tensor.data = tensor.data.bfloat16()


def without_memory(tensor: Tensor) -> None:
    data = tensor.data.clone()
    data.untyped_storage().resize_(0)
    tensor.data = data


CHANGES: dict[str, Callable[[Tensor], None]] = {
    "on another device": moved_to("sim:1"),
    "smaller": smaller,
    "elsewhere": elsewhere,
    "of another type": of_another_type,
    "without memory": without_memory,
}


@pytest.mark.parametrize("index", [0, COUNT - 1])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(change: str, key: str, index: int) -> None:
    watched = Watched(parameters("sim:0"))
    group = watched.optimizer.param_groups[0]["params"]
    tensor = watched.tensor(key, index)
    kept = tensor.data
    CHANGES[change](tensor)
    # A gradient is new in each step as a rule.
    taken = key == "grad" and change == "elsewhere"
    assert watched.watch.take(group, watched.optimizer.state) == taken
    watched.watch.release()
    tensor.data = kept
    assert watched.watch.take(group, watched.optimizer.state)
    watched.watch.release()


@pytest.mark.parametrize("key", KEYS[2:])
@pytest.mark.parametrize("device", ["sim:1", "cpu"])
def test_a_state_of_another_device_is_noticed(key: str, device: str) -> None:
    watched, other = Watched(parameters("sim:0")), Watched(parameters("sim:0"))
    state = watched.optimizer.state[watched.params[3]]
    state[key] = state[key].to(device)
    watched.step(2)
    other.step(2)
    assert watched.told == [False]
    assert state[key].device == watched.params[3].device
    torch.accelerator.synchronize()
    for left, right in zip(watched.params, other.params, strict=True):
        assert torch.equal(left.detach().cpu(), right.detach().cpu())


def test_a_gradient_in_memory_that_is_written_is_refused() -> None:
    watched = Watched(parameters("sim"))
    give(watched.params, 2)
    watched.params[3].grad = watched.params[3].data
    with pytest.raises(ValueError, match="memory"):
        watched.optimizer.step()
    assert watched.told == [False]


def test_nothing_is_kept_between_steps() -> None:
    watched = Watched(parameters("sim"))
    give(watched.params, 2)
    tensors = [watched.tensor(key, 3) for key in KEYS]
    before = [sys.getrefcount(tensor) for tensor in tensors]
    watched.optimizer.step()
    assert watched.told == [True]
    assert [sys.getrefcount(tensor) for tensor in tensors] == before


def test_a_copy_is_watched_by_itself() -> None:
    watched = Watched(parameters("sim"))
    other = copy.deepcopy(watched.optimizer)
    assert not other._prepared
    watched.step(2)
    assert watched.told == [True]
    del watched
    gc.collect()
    params = other.param_groups[0]["params"]
    for seed in range(3):
        give(params, seed)
        other.step()
    assert other._prepared[0]._native is not None
