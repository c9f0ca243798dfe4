"""Hooks and the profiler's mark around a step: there for who asks, and not entered otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from accel.optim import CPUAdam, FusedAdam, FusedLion

MARK = "Optimizer.step#FusedAdam.step"
WATCHES: dict[str, Callable[[FusedAdam, Any], Any]] = {
    "own pre": lambda mine, hook: mine.register_step_pre_hook(hook),
    "own post": lambda mine, hook: mine.register_step_post_hook(hook),
    "global pre": lambda _, hook: register_optimizer_step_pre_hook(hook),
    "global post": lambda _, hook: register_optimizer_step_post_hook(hook),
}


def ready(cls: Any = FusedAdam) -> Any:
    param = torch.nn.Parameter(torch.ones(8))
    param.grad = torch.ones(8)
    return cls([param], lr=0.1)


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the marks that are entered, which are entered still."""
    entered: list[str] = []
    real = torch.autograd.profiler.record_function

    def record(name: str, *args: Any) -> Any:
        entered.append(name)
        return real(name, *args)

    monkeypatch.setattr("torch.autograd.profiler.record_function", record)
    return entered


def test_a_profiler_sees_every_step() -> None:
    optimizer = ready()
    optimizer.step()
    with torch.profiler.profile() as seen:
        optimizer.step()
        optimizer.step()
    assert [event.name for event in seen.events()].count(MARK) == 2


@pytest.mark.parametrize("kind", WATCHES)
def test_hooks_run_from_when_they_are_registered_until_removed(kind: str) -> None:
    calls: list[Any] = []
    optimizer = ready()
    optimizer.step()
    handle = WATCHES[kind](optimizer, lambda *told: calls.append(told[0]))
    optimizer.step()
    assert calls == [optimizer]
    handle.remove()
    optimizer.step()
    assert calls == [optimizer]


def test_a_hook_may_change_the_arguments() -> None:
    optimizer = ready()
    optimizer.register_step_pre_hook(lambda *_: ((optimizer, lambda: 3.0), {}))
    assert optimizer.step() == 3.0


@pytest.mark.parametrize("cls", [FusedAdam, CPUAdam, FusedLion])
def test_nobody_pays_for_a_mark_that_nobody_sees(cls: Any, marks: list[str]) -> None:
    optimizer = ready(cls)
    optimizer.step()
    assert marks == []
    optimizer.register_step_post_hook(lambda *_: None)
    optimizer.step()
    assert marks == [f"Optimizer.step#{cls.__name__}.step"]


@pytest.mark.parametrize("name", ["_HOOKS", "_GLOBAL_HOOKS"])
def test_hooks_that_torch_keeps_elsewhere_count_as_there(
    name: str, marks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"accel.optim.hooks.{name}", ("_not_in_this_torch",))
    ready().step()
    assert marks == [MARK]
