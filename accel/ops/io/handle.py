"""`AioHandle`: transfers between tensors and files, with the names of DeepSpeed's handle."""

from __future__ import annotations

import errno
import os
import weakref
from typing import TYPE_CHECKING, Any

from torch import Tensor

from accel.errors import AccelError
from accel.ops.io.buffers import Buffer, check_int, check_path
from accel.ops.io.choosing import make_engine
from accel.ops.io.engines import MOST_THREADS
from accel.ops.io.jobs import Job, Jobs, give_up
from accel.ops.io.pinned import PinnedMemory

if TYPE_CHECKING:
    import ctypes

_LARGEST = 2**63 - 1
_SECTOR = 512


class AioHandle:
    """Reads and writes of files, begun by one call and waited for by another.

    Any tensor of the host is accepted: any size, dtype, strides, alignment and offset. Data
    bypasses the page cache if possible. A file to be written is created if it is missing (mode
    0600) and never shortened. Errors before the transfer begins are raised at once; later ones are
    raised by `wait`. Threads of a process may share a handle; a child process has to make its own.

    Args:
        block_size: bytes of one request.
        queue_depth: requests in flight for each thread.
        single_submit: accepted without effect: requests are submitted in batches anyway.
        overlap_events: accepted without effect: requests overlap anyway.
        intra_op_parallelism: threads that share each transfer.

    Raises:
        TypeError: an argument is not a whole number.
        ValueError: it is out of range.
        OpUnavailable: ``ACCEL_IO_ENGINE`` asks for an engine that cannot be used here.
    """

    def __init__(
        self,
        block_size: int = 1 << 20,
        queue_depth: int = 128,
        single_submit: bool = False,
        overlap_events: bool = False,
        intra_op_parallelism: int = 1,
        *,
        library: ctypes.CDLL | None = None,
        pinned: PinnedMemory,
    ) -> None:
        self._block_size = check_int("block_size", block_size, 1, _LARGEST)
        self._queue_depth = check_int("queue_depth", queue_depth, 1, 1 << 20)
        self._single_submit = bool(single_submit)
        self._overlap_events = bool(overlap_events)
        self._parallelism = check_int("intra_op_parallelism", intra_op_parallelism, 1, MOST_THREADS)
        self._pinned = pinned
        sizes = self._block_size, self._queue_depth, self._parallelism
        self._jobs = Jobs(make_engine(library, *sizes))
        self._end = weakref.finalize(self, give_up, self._jobs)

    def get_block_size(self) -> int:
        """Return the bytes of one request."""
        return self._block_size

    def get_queue_depth(self) -> int:
        """Return the requests in flight for each thread."""
        return self._queue_depth

    def get_single_submit(self) -> bool:
        """Return `single_submit` as it was given."""
        return self._single_submit

    def get_overlap_events(self) -> bool:
        """Return `overlap_events` as it was given."""
        return self._overlap_events

    def get_intra_op_parallelism(self) -> int:
        """Return how many threads share a transfer."""
        return self._parallelism

    def get_alignment(self) -> int:
        """Return 512 bytes for each thread, to which DeepSpeed pads; nothing here needs it."""
        return _SECTOR * self._parallelism

    def read(self, buffer: Tensor, filename: Any, validate: bool, file_offset: int = 0) -> int:
        """Read a file into `buffer` and return 0; see `sync_pread`."""
        self._at_once(self._job(buffer, filename, file_offset, write=False, validate=validate))
        return 0

    def write(self, buffer: Tensor, filename: Any, validate: bool, file_offset: int = 0) -> int:
        """Write `buffer` to a file and return 0; see `sync_pwrite`."""
        self._at_once(self._job(buffer, filename, file_offset, write=True, validate=validate))
        return 0

    def pread(
        self, buffer: Tensor, filename: Any, validate: bool, is_async: bool, file_offset: int = 0
    ) -> int:
        """Read as `async_pread` does if `is_async`, else as `sync_pread`.

        With `validate` the file is read once more, in another way, and compared.
        """
        job = self._job(buffer, filename, file_offset, write=False, validate=validate)
        return self._later(job) if is_async else self._at_once(job)

    def pwrite(
        self, buffer: Tensor, filename: Any, validate: bool, is_async: bool, file_offset: int = 0
    ) -> int:
        """Write as `async_pwrite` does if `is_async`, else as `sync_pwrite`.

        With `validate` the file is read afterwards and compared.
        """
        job = self._job(buffer, filename, file_offset, write=True, validate=validate)
        return self._later(job) if is_async else self._at_once(job)

    def sync_pread(self, buffer: Tensor, filename: Any, file_offset: int = 0) -> int:
        """Read ``buffer.nbytes`` bytes of a file, and wait for all pending transfers.

        Args:
            buffer: the tensor that is filled, in the order of its elements.
            filename: the path.
            file_offset: offset of the first byte in the file.

        Returns:
            How many transfers have ended: 1 if none was pending.

        Raises:
            TypeError: an argument is of the wrong kind.
            ValueError: an argument has a value that is refused.
            TransferError: the system reported an error, or the file is too short; an `OSError`.
            AccelError: the handle is another process's, or closed.
        """
        return self._at_once(self._job(buffer, filename, file_offset, write=False))

    def sync_pwrite(self, buffer: Tensor, filename: Any, file_offset: int = 0) -> int:
        """Write the elements of `buffer` to a file, and wait for all pending transfers.

        Arguments, result and errors are those of `sync_pread`.
        """
        return self._at_once(self._job(buffer, filename, file_offset, write=True))

    def async_pread(self, buffer: Tensor, filename: Any, file_offset: int = 0) -> int:
        """Begin the transfer of `sync_pread`, and return 0.

        Until `wait`, the contents of `buffer` are undefined and must not be changed.
        """
        return self._later(self._job(buffer, filename, file_offset, write=False))

    def async_pwrite(
        self,
        buffer: Tensor,
        filename: Any = None,
        file_offset: int = 0,
        *,
        fd: int | None = None,
    ) -> int:
        """Begin the transfer of `sync_pwrite`, and return 0.

        Until `wait`, the contents of `buffer` must not be changed.

        Args:
            buffer: the tensor that is written.
            filename: the path, or an open descriptor, which may be closed after this call.
            file_offset: offset of the first byte in the file.
            fd: an open descriptor, instead of `filename`.
        """
        if (filename is None) == (fd is None):
            raise TypeError("async_pwrite takes a filename or an fd; pass exactly one of them.")
        where = fd if filename is None else filename
        return self._later(self._job(buffer, where, file_offset, write=True, by_number=True))

    def wait(self) -> int:
        """Wait until all pending transfers have ended, and return how many there were.

        The interpreter's lock is not held. An exception of a signal's handler, such as
        `KeyboardInterrupt`, ends only the wait: the next call waits for the same transfers.

        Raises:
            TransferError: some failed. ``.failures`` has all of them; the handle is still usable.
            AccelError: the handle is another process's, or closed.
        """
        self._check()
        return self._jobs.wait()

    def new_cpu_locked_tensor(self, num_elem: int, example_tenosr: Tensor) -> Tensor:
        """Call `PinHandle.new_cpu_locked_tensor`; the argument's odd name is DeepSpeed's."""
        return self._pinned.new(num_elem, example_tenosr)

    def free_cpu_locked_tensor(self, tensor: Tensor) -> bool:
        """Call `PinHandle.free_cpu_locked_tensor`."""
        return self._pinned.free(tensor)

    def is_pinned(self, buffer: Tensor) -> bool:
        """Call `PinHandle.is_pinned`."""
        return self._pinned.is_pinned(buffer)

    def engine(self) -> str:
        """Return ``"io_uring"`` once a thread has started with one, else ``"threads"``."""
        self._check()
        return "io_uring" if self._jobs.engine.rings() else "threads"

    def close(self) -> None:
        """Finish all transfers, warn of those that failed, and end the threads; once."""
        self._end()

    def _check(self) -> None:
        if not self._end.alive:
            raise AccelError("the aio_handle is closed; make another.")
        if os.getpid() != self._jobs.process:
            raise AccelError(
                f"the aio_handle was made in process {self._jobs.process}, but this is process "
                f"{os.getpid()}, which does not have its threads; make one here."
            )

    def _job(
        self,
        buffer: Tensor,
        where: Any,
        offset: int,
        *,
        write: bool,
        validate: bool = False,
        by_number: bool = False,
    ) -> Job:
        self._check()
        place: bytes | int
        if by_number and isinstance(where, int) and not isinstance(where, bool):
            place = check_int("fd", where, 0, 2**31 - 1)
        else:
            place = check_path(where)
        offset = check_int("file_offset", offset, 0, _LARGEST)
        memory = Buffer(buffer, write=write)
        if memory.length > _LARGEST - offset:
            raise ValueError(f"file_offset is {offset}; the transfer would end beyond any file.")
        return Job(memory, place, offset, write=write, validate=validate)

    def _later(self, job: Job) -> int:
        self._jobs.begin(job)
        return 0

    def _at_once(self, job: Job) -> int:
        jobs = self._jobs
        if jobs.begun or job.buffer.length > self._block_size:
            ticket = jobs.begin(job)
            try:
                return jobs.wait()
            except KeyboardInterrupt:
                jobs.abandon(ticket)
                raise
        # Done by this thread, because waking another takes longer than a small transfer.
        try:
            result = jobs.engine.run(*job.arguments())
        except OSError as error:
            raise job.refused(error.errno or errno.EIO) from None
        failed = job.end(result)
        if failed is not None:
            raise failed
        return 1
