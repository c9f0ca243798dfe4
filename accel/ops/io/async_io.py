"""``async_io``: reads files into tensors and writes tensors to files, with DeepSpeed's names."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from accel.ops.base import Op
from accel.ops.io.choosing import choice, make_engine
from accel.ops.io.handle import AioHandle
from accel.ops.io.memcpy import copy_bytes
from accel.ops.io.pinned import shared
from accel.ops.native import check_interface

if TYPE_CHECKING:
    from accel.jit import Library
    from accel.ops.io.engines import Engine


class AsyncIO(Op):
    """The op of ``AsyncIOBuilder``: handles, and functions that make one for a single transfer.

    Without a compiler, Python's own threads do the work, through the page cache.
    """

    name: ClassVar[str] = "async_io"
    functions: ClassVar[tuple[str, ...]] = (
        "aio_handle",
        "aio_read",
        "aio_write",
        "deepspeed_memcpy",
    )

    def __init__(self, library: Library | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        if library is not None:
            check_interface(library, "accel_io_create", "accel_pin_lock")
        self._library = None if library is None else library.handle
        self._pinned = shared(backend, library)

    @classmethod
    def notes(cls, backend: str) -> tuple[str, ...]:
        """Return which engine runs transfers, and why."""
        ring, why = choice()
        engine = "io_uring for what bypasses the page cache" if ring else "a pool of threads"
        return (f"Engine: {engine}; {why}.",)

    def aio_handle(
        self,
        block_size: int = 1 << 20,
        queue_depth: int = 128,
        single_submit: bool = False,
        overlap_events: bool = False,
        intra_op_parallelism: int = 1,
    ) -> AioHandle:
        """Return a new handle; arguments and errors are those of `AioHandle`."""
        return AioHandle(
            block_size,
            queue_depth,
            single_submit,
            overlap_events,
            intra_op_parallelism,
            library=self._library,
            pinned=self._pinned,
        )

    def make_engine(self, block: int, depth: int, threads: int) -> Engine:
        """Return a new engine as handles have one, whose results say what bypassed the cache.

        Args:
            block: bytes of one request.
            depth: requests in flight for each thread.
            threads: threads that share a transfer.

        Raises:
            OpUnavailable: ``ACCEL_IO_ENGINE`` asks for an engine that cannot be used here.
        """
        return make_engine(self._library, block, depth, threads)

    def aio_read(
        self,
        buffer: Tensor,
        filename: Any,
        block_size: int,
        queue_depth: int,
        single_submit: bool,
        overlap_events: bool,
        validate: bool,
    ) -> int:
        """Read a file from its start into `buffer` and return 0; see `AioHandle.read`."""
        handle = self.aio_handle(block_size, queue_depth, single_submit, overlap_events)
        with contextlib.closing(handle):
            return handle.read(buffer, filename, validate)

    def aio_write(
        self,
        buffer: Tensor,
        filename: Any,
        block_size: int,
        queue_depth: int,
        single_submit: bool,
        overlap_events: bool,
        validate: bool,
    ) -> int:
        """Write `buffer` to the start of a file and return 0; see `AioHandle.write`."""
        handle = self.aio_handle(block_size, queue_depth, single_submit, overlap_events)
        with contextlib.closing(handle):
            return handle.write(buffer, filename, validate)

    def deepspeed_memcpy(self, dest: Tensor, src: Tensor) -> int:
        """Copy the bytes of `src` to `dest` and return 0; see `copy_bytes`."""
        return copy_bytes(dest, src)
