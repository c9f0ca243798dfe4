"""`Transfers`: staging memory on the host, and copies between it and a device on two streams."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accel.base import Accelerator

_SLOTS = 2


class Transfers:
    """Two slots of pinned memory for gradients and two for parameters.

    Bucket number n uses slot n modulo 2. Where the device has no streams, every copy waits.

    Args:
        accelerator: the device's strategy.
        device: the device.
        dtypes: element types of parameters and of gradients.
        size: elements of a slot.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        device: torch.device,
        dtypes: tuple[torch.dtype, torch.dtype],
        size: int,
    ) -> None:
        self._accelerator = accelerator
        self._device = device

        def pinned(dtype: torch.dtype) -> list[Tensor]:
            return [
                accelerator.pin_memory(
                    torch.empty(size, dtype=dtype, device="cpu"), make_copy=False
                )
                for _ in range(_SLOTS)
            ]

        self._params, self._grads = pinned(dtypes[0]), pinned(dtypes[1])
        self._late = accelerator.has("streams") and accelerator.has("events")
        if self._late:
            self._down, self._up = (accelerator.Stream(device=device) for _ in range(2))
            self._fetched = [accelerator.Event() for _ in range(_SLOTS)]
            self._sent: list[Any] = [None] * _SLOTS

    def params(self, number: int) -> Tensor:
        """Return the host memory of a bucket's parameters."""
        return self._params[number % _SLOTS]

    def grads(self, number: int) -> Tensor:
        """Return the host memory of a bucket's gradients."""
        return self._grads[number % _SLOTS]

    def begin(self) -> None:
        """Let the copies wait for what the device's current stream has been given so far."""
        if self._late:
            current = self._accelerator.current_stream(self._device.index)
            self._down.wait_stream(current)
            self._up.wait_stream(current)

    def fetch(self, number: int, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        """Start to copy gradients from the device; the slot must have been stepped."""
        with self._on("_down"):
            self._copy(sources, targets)
            if self._late:
                self._fetched[number % _SLOTS].record(self._down)

    def wait_until_usable(self, number: int) -> None:
        """Wait until a bucket's gradients are there and its slot for parameters is free."""
        if self._late:
            self._fetched[number % _SLOTS].synchronize()
            sent = self._sent[number % _SLOTS]
            if sent is not None:
                sent.synchronize()

    def send(self, number: int, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        """Start to copy parameters to the device."""
        with self._on("_up"):
            self._copy(sources, targets)
            if self._late:
                sent = self._accelerator.Event()
                sent.record(self._up)
                self._sent[number % _SLOTS] = sent

    def end(self) -> None:
        """Let the device's current stream wait for the parameters."""
        if self._late:
            self._accelerator.current_stream(self._device.index).wait_stream(self._up)

    def _on(self, stream: str) -> AbstractContextManager[Any]:
        return self._accelerator.stream(getattr(self, stream)) if self._late else nullcontext()

    def _copy(self, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        for source, target in zip(sources, targets, strict=True):
            target.copy_(source, non_blocking=self._late)
