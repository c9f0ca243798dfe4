"""Pinned host memory from which tables are copied, some of it put aside for graph captures.

A copy from pinned memory waits for nothing, and a capture takes it; pinned memory itself can not
be allocated in a capture by every torch.
"""

from __future__ import annotations

from threading import Lock

import torch
from torch import Tensor

from accel.errors import Unsupported
from accel.ops.native import current_device

TABLES = 16
"""How many tables of the largest size so far can be captured without a step in between."""

_LEAST = 1 << 17
"""Words that are put aside at least: 1 MiB."""


class Reserve:
    """Pinned memory that is put aside outside of captures, and given out inside them.

    What has been given out is never given out again: a graph reads it at every replay.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._memory: Tensor | None = None

    def refill(self, words: int, device: torch.device) -> None:
        """Put memory aside for captures of tables of that size; not to be called in a capture."""
        with self._lock:
            if self._room() < max(TABLES * words, _LEAST) // 2:
                self._memory = pinned(max(TABLES * words, _LEAST), device)

    def take(self, words: int, device: torch.device) -> Tensor:
        """Return memory of that size; allocates none.

        Raises:
            Unsupported: there is too little left.
        """
        with self._lock:
            if self._memory is None or self._room() < words:
                raise Unsupported(
                    f"{device}: a graph is being captured, and the addresses of this step's "
                    "tensors need pinned host memory, which a capture can not allocate. Step once "
                    "outside of the capture, which puts some aside, and capture again."
                )
            taken, self._memory = self._memory[:words], self._memory[words:]
        return taken

    def _room(self) -> int:
        return 0 if self._memory is None else len(self._memory)


def pinned(words: int, device: torch.device) -> Tensor:
    """Return new int64 memory of the host; pinned unless the device is the CPU.

    Torch gives it to nobody else before the copies from it are done, even if it is let go.
    """
    with current_device(device):
        return torch.empty(words, dtype=torch.int64, device="cpu", pin_memory=device.type != "cpu")
