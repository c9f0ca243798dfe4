"""`Stream`: states on their way from files through a few buffers and back, while kernels run."""

from __future__ import annotations

import mmap
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from accel.current import accelerator_for
from accel.optim.swap.extent import PAGE, Bucket, Extent

SLOTS = 4
"""Buffers in turn: one is stepped, one is written, and the others are read ahead."""

LEAST = 1 << 20
"""The smallest limit in bytes: each buffer then has a page of every state."""

_LARGEST = 1 << 26
"""Bytes of a buffer beyond which a longer transfer is no faster."""

_BLOCK = 1 << 20
_PAGE_BYTES = 4096

Step = Callable[[dict[str, Tensor]], None]


class Work(NamedTuple):
    """A bucket to step.

    Attributes:
        bucket: its states.
        step: steps it, given the states by key as flat tensors.
    """

    bucket: Bucket
    step: Step


class Stream:
    """The buffers of one optimizer, and the handles that fill and empty them.

    Every buffer has a handle of its own, so that the end of its transfer can be waited for while
    others continue.

    Args:
        limit: the most bytes of all buffers.

    Attributes:
        room: bytes of one buffer.
        allocated: bytes of the buffers that are in memory.
    """

    def __init__(self, limit: int) -> None:
        self.room = min(limit // SLOTS, _LARGEST) // _PAGE_BYTES * _PAGE_BYTES
        self.allocated = 0
        self._buffers: list[Tensor] = []
        self._handles: list[Any] = []

    def run(self, works: Sequence[Work]) -> None:
        """Step every bucket once; raises `OSError` if a transfer failed."""
        if not works:
            return
        self._open()
        for number in range(min(SLOTS - 1, len(works))):
            self._read(number, works)
        for number, work in enumerate(works):
            handle = self._handles[number % SLOTS]
            handle.wait()
            work.step(self._states(number, work.bucket))
            self._transfer(number, work.bucket, handle.async_pwrite)
            ahead = number + SLOTS - 1
            if ahead < len(works):
                # The buffer that was written last is the next one to be read into.
                self._handles[ahead % SLOTS].wait()
                self._read(ahead, works)
        for handle in self._handles:
            handle.wait()

    def fill(self, extent: Extent, key: str, start: int, stop: int, source: Tensor | float) -> None:
        """Write elements of a state: those of a flat tensor, converted, or one number for all."""
        self._open()
        dtype = dict(extent.fields)[key]
        buffer = self._buffers[0].view(dtype)
        for at in range(start, stop, len(buffer)):
            part = buffer[: min(len(buffer), stop - at)]
            if isinstance(source, Tensor):
                part.copy_(source[at - start : at - start + len(part)])
            elif at == start:
                buffer.fill_(source)
            self._handles[0].sync_pwrite(part, extent.path, extent.offset(key, dtype, at))

    def drain(self) -> list[OSError]:
        """Wait for all transfers; return the errors of those that failed."""
        errors = []
        for handle in self._handles:
            try:
                handle.wait()
            except OSError as error:
                errors.append(error)
        return errors

    def close(self) -> None:
        """Finish all transfers and free the buffers."""
        for handle in self._handles:
            handle.close()
        self._handles, self._buffers, self.allocated = [], [], 0

    def _open(self) -> None:
        if self._buffers:
            return
        op = accelerator_for(torch.device("cpu")).create_op_builder("AsyncIOBuilder").load()
        # The mapping is page-aligned, as transfers past the page cache need it.
        with torch.inference_mode(False):
            memory = torch.frombuffer(mmap.mmap(-1, self.room * SLOTS), dtype=torch.uint8)
        self._handles = [op.aio_handle(_BLOCK, 32) for _ in range(SLOTS)]
        self._buffers = [*memory.view(SLOTS, self.room)]
        self.allocated = memory.nbytes

    def _states(self, number: int, bucket: Bucket) -> dict[str, Tensor]:
        """Return the parts of a buffer for a bucket's states."""
        found, begin = {}, 0
        memory = self._buffers[number % SLOTS]
        for key, dtype in bucket.extent.fields:
            end = begin + (bucket.stop - bucket.start) * dtype.itemsize
            found[key] = memory[begin:end].view(dtype)
            begin = end
        return found

    def _read(self, number: int, works: Sequence[Work]) -> None:
        bucket = works[number].bucket
        self._transfer(number, bucket, self._handles[number % SLOTS].async_pread)

    def _transfer(self, number: int, bucket: Bucket, begin: Callable[..., int]) -> None:
        extent = bucket.extent
        for key, state in self._states(number, bucket).items():
            begin(state, extent.path, extent.offset(key, state.dtype, bucket.start))


def check_limit(limit: int) -> None:
    """Raise `ValueError` if the limit of memory is too small for buffers of whole pages."""
    if limit < LEAST:
        raise ValueError(
            f"swap_memory is {limit} bytes; expected at least {LEAST}, with which {SLOTS} buffers "
            f"have {PAGE} elements of every state each."
        )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C, which would leave some tensors stepped, until everything is done."""
    handler: Any = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    held: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *given: held.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if held:
        handler(*held[0])
