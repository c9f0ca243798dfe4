"""Pinned host memory from which tables are copied, some of it reserved for graph captures.

A copy from pinned memory does not wait, and can be captured. But not every torch can allocate
pinned memory during a capture.
"""

from __future__ import annotations

from threading import Lock

import torch
from torch import Tensor

from accel.errors import Unsupported
from accel.ops.native import current_device

TABLES = 16
"""The number of tables of the largest size so far that can be captured without a step between."""

_LEAST = 1 << 17
"""The smallest number of words that are reserved: 1 MiB."""


class Reserve:
    """Pinned memory that is reserved outside of captures, and used inside them.

    Used memory is never used again, because a graph reads it at every replay.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._memory: Tensor | None = None

    def refill(self, words: int, device: torch.device) -> None:
        """Reserve memory for captures of tables of this size; must not be called in a capture."""
        with self._lock:
            if self._room() < max(TABLES * words, _LEAST) // 2:
                self._memory = pinned(max(TABLES * words, _LEAST), device)

    def take(self, words: int, device: torch.device) -> Tensor:
        """Return reserved memory of this size, without allocating.

        Raises:
            Unsupported: too little is left.
        """
        with self._lock:
            if self._memory is None or self._room() < words:
                raise Unsupported(
                    f"{device}: a graph is being captured, and the addresses of this step's "
                    "tensors need pinned host memory, which a capture cannot allocate. Step once "
                    "outside of the capture, which reserves some, and capture again."
                )
            taken, self._memory = self._memory[:words], self._memory[words:]
        return taken

    def _room(self) -> int:
        return 0 if self._memory is None else len(self._memory)


def pinned(words: int, device: torch.device) -> Tensor:
    """Return new int64 memory of the host; pinned unless the device is the CPU.

    Even if it is freed, torch does not reuse it before the copies from it are done.
    """
    with current_device(device):
        return torch.empty(words, dtype=torch.int64, device="cpu", pin_memory=device.type != "cpu")
