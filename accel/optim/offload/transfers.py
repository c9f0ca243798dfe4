"""`Transfers`: staging memory on the host, and copies between it and a device on two streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accel.base import Accelerator

_SLOTS = 2

SMALL = 1 << 16
"""Pieces of fewer elements are copied together: a copy for each would take longer."""

Span = tuple[int, int]
"""Where a piece begins and ends in its bucket."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring pieces, `first` to `last`, that are transferred in one copy.

    `packed` is device memory for several of them, laid out as in the bucket; a piece that is
    transferred alone has none.
    """

    first: int
    last: int
    start: int
    stop: int
    packed: tuple[Tensor, ...] = ()


class _Lane:
    """One direction: its stream, two slots of pinned memory, and memory on the device.

    All runs use the same device memory in turn, since the stream keeps them in order. The memory
    belongs to that stream, so it may be freed before the last copy is done.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        device: torch.device,
        dtype: torch.dtype,
        buckets: Sequence[Sequence[Span]],
        late: bool,
    ) -> None:
        self._accelerator = accelerator
        self._late = late
        self.stream: Any = accelerator.Stream(device=device) if late else None
        size = max((spans[-1][1] for spans in buckets), default=0)
        self._slots = [
            accelerator.pin_memory(torch.empty(size, dtype=dtype, device="cpu"), make_copy=False)
            for _ in range(_SLOTS)
        ]
        runs = [list(_runs(spans)) for spans in buckets]
        most = max((b.stop - b.start for r in runs for b in r if b.last - b.first > 1), default=0)
        with self.on():
            self._packed = torch.empty(most, dtype=dtype, device=device)
        self._runs = [
            [self._with_memory(run, spans) for run in its]
            for its, spans in zip(runs, buckets, strict=True)
        ]

    def _with_memory(self, run: _Run, spans: Sequence[Span]) -> _Run:
        if run.last - run.first == 1:
            return run
        packed = tuple(
            self._packed[start - run.start : stop - run.start]
            for start, stop in spans[run.first : run.last]
        )
        return _Run(run.first, run.last, run.start, run.stop, packed)

    def on(self) -> AbstractContextManager[Any]:
        """Return a context in which the lane's stream is current."""
        return self._accelerator.stream(self.stream) if self._late else nullcontext()

    def slot(self, number: int) -> Tensor:
        """Return the host memory of a bucket."""
        return self._slots[number % _SLOTS]

    def down(self, number: int, pieces: list[Tensor]) -> None:
        """Copy pieces on the device to their bucket on the host."""
        host = self.slot(number)
        for run in self._runs[number]:
            there = pieces[run.first]
            if run.packed:
                torch._foreach_copy_(run.packed, pieces[run.first : run.last])
                there = self._packed[: run.stop - run.start]
            host[run.start : run.stop].copy_(there, non_blocking=self._late)

    def up(self, number: int, pieces: list[Tensor]) -> None:
        """Copy a bucket on the host to pieces on the device."""
        host = self.slot(number)
        for run in self._runs[number]:
            there = self._packed[: run.stop - run.start] if run.packed else pieces[run.first]
            there.copy_(host[run.start : run.stop], non_blocking=self._late)
            if run.packed:
                torch._foreach_copy_(pieces[run.first : run.last], run.packed)


class Transfers:
    """Gradients on their way to the host, and parameters on their way back.

    Bucket number n uses slot n modulo 2. If the device has no streams, every copy waits.

    Args:
        accelerator: the device's strategy.
        device: the device.
        dtypes: element types of parameters and of gradients.
        buckets: the place of each piece in its bucket, in order.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        device: torch.device,
        dtypes: tuple[torch.dtype, torch.dtype],
        buckets: Sequence[Sequence[Span]],
    ) -> None:
        self._accelerator = accelerator
        self._device = device
        self._late = accelerator.has("streams") and accelerator.has("events")
        self._up, self._down = (
            _Lane(accelerator, device, dtype, buckets, self._late) for dtype in dtypes
        )
        if self._late:
            self._fetched = [accelerator.Event() for _ in range(_SLOTS)]
            self._sent: list[Any] = [None] * _SLOTS

    def params(self, number: int) -> Tensor:
        """Return the host memory of a bucket's parameters."""
        return self._up.slot(number)

    def grads(self, number: int) -> Tensor:
        """Return the host memory of a bucket's gradients."""
        return self._down.slot(number)

    def begin(self) -> None:
        """Let the copies wait for all work queued so far on the device's current stream."""
        if self._late:
            current = self._accelerator.current_stream(self._device.index)
            self._down.stream.wait_stream(current)
            self._up.stream.wait_stream(current)

    def fetch(self, number: int, pieces: list[Tensor]) -> None:
        """Start to copy gradients from the device; the slot must have been stepped."""
        with self._down.on():
            self._down.down(number, pieces)
            if self._late:
                self._fetched[number % _SLOTS].record(self._down.stream)

    def wait_until_usable(self, number: int) -> None:
        """Wait until a bucket's gradients are on the host and its slot for parameters is free."""
        if self._late:
            self._fetched[number % _SLOTS].synchronize()
            sent = self._sent[number % _SLOTS]
            if sent is not None:
                sent.synchronize()

    def send(self, number: int, pieces: list[Tensor]) -> None:
        """Start to copy parameters to the device."""
        with self._up.on():
            self._up.up(number, pieces)
            if self._late:
                sent = self._accelerator.Event()
                sent.record(self._up.stream)
                self._sent[number % _SLOTS] = sent

    def end(self) -> None:
        """Let the device's current stream wait for the parameters."""
        if self._late:
            self._accelerator.current_stream(self._device.index).wait_stream(self._up.stream)


def _runs(spans: Sequence[Span]) -> Iterator[_Run]:
    """Yield the pieces of a bucket in groups for one copy: consecutive small pieces go together."""
    first = 0
    while first < len(spans):
        last = first
        while last < len(spans) and spans[last][1] - spans[last][0] < SMALL:
            last += 1
        last = max(last, first + 1)
        yield _Run(first, last, spans[first][0], spans[last - 1][1])
        first = last
