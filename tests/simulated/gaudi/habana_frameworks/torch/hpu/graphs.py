"""Graphs of lazy mode: what went through the dispatcher is called again on replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from simulator.streams import current_stream
from simulator.streams import stream as on_stream
from torch.utils._python_dispatch import TorchDispatchMode


class HPUGraph:
    """Calls to be made again; `graph` fills it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] | None = None

    def replay(self) -> None:
        if self.calls is None:
            raise RuntimeError("hpu: this graph is empty")
        for function, args, kwargs, made in self.calls:
            again = function(*args, **kwargs)
            if isinstance(made, torch.Tensor) and not function.is_view and again is not made:
                made.copy_(again)

    def reset(self) -> None:
        self.calls = None


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made


@contextmanager
def graph(graph: HPUGraph, stream: torch.Stream | None = None) -> Iterator[None]:
    """Record the work of the block into `graph`, on `stream` or another one."""
    recorder = _Recorder()
    outside, inside = current_stream(), stream if stream is not None else torch.Stream("hpu")
    inside.wait_stream(outside)
    with on_stream(inside), recorder:
        yield
    outside.wait_stream(inside)
    graph.calls = recorder.calls
