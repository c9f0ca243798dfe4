"""`Jobs`: transfers between the call that begins them and the one that waits for them."""

from __future__ import annotations

import errno
import os
import threading
import warnings

from accel.ops.io.buffers import Buffer
from accel.ops.io.engines import WRITE, Engine, Result
from accel.ops.io.failures import TransferError, failure, joined

_SLICE_MS = 50


class Job:
    """A transfer that was begun: its memory, which must live until it ends, and its file.

    Attributes:
        buffer: the memory.
        name: the file, in words.
    """

    def __init__(
        self, buffer: Buffer, where: bytes | int, offset: int, *, write: bool, validate: bool
    ) -> None:
        self.buffer = buffer
        self.where = where
        self.name = f"descriptor {where}" if isinstance(where, int) else os.fsdecode(where)
        self.offset = offset
        self.write = write
        self.validate = validate

    def arguments(self) -> tuple[bytes | None, int, int, int, int, int]:
        """Return the arguments for an engine."""
        path, fd = (None, self.where) if isinstance(self.where, int) else (self.where, -1)
        flags = WRITE if self.write else 0
        return path, fd, self.buffer.address, self.offset, self.buffer.length, flags

    def refused(self, number: int) -> TransferError:
        """Return the error of a transfer that could not begin."""
        return failure(number, self.name, self.offset, self.buffer.length, write=self.write)

    def end(self, result: Result) -> TransferError | None:
        """Finish a transfer; return its failure if it failed."""
        if result.error:
            return failure(result.error, self.name, result.offset, result.length, write=self.write)
        self.buffer.finish()
        if self.validate and isinstance(self.where, bytes):
            at = self.buffer.first_difference(self.where, self.offset)
            if at is not None:
                length = self.buffer.length - (at - self.offset)
                told = f"the file and the buffer differ in the MiB that begins at byte {at}"
                return failure(errno.EIO, self.name, at, length, write=self.write, meaning=told)
        return None


class Jobs:
    """Transfers of one engine, from the call that begins them to the one that waits for them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.process = os.getpid()
        self.begun: dict[int, Job] = {}
        self.ended: list[Result] = []
        self.lock = threading.Lock()

    def begin(self, job: Job) -> int:
        """Begin a transfer and return its ticket; raises `TransferError` if it cannot begin."""
        with self.lock:
            try:
                ticket = self.engine.submit(*job.arguments())
            except OSError as error:
                raise job.refused(error.errno or errno.EIO) from None
            self.begun[ticket] = job
            job.buffer.mark()
            return ticket

    def wait(self) -> int:
        """Wait for all transfers and return how many there were; raises `TransferError`.

        After an exception of a signal's handler, the next call waits for them.
        """
        while self.engine.wait(0, _SLICE_MS):
            pass
        failures: list[TransferError] = []
        completed = 0
        with self.lock:
            self.ended += self.engine.collect(0)
            while self.ended:
                failed = self._end(self.ended[0])
                del self.ended[0]
                if failed is None:
                    completed += 1
                else:
                    failures.append(failed)
        if failures:
            raise joined(failures, completed)
        return completed

    def abandon(self, ticket: int) -> None:
        """End one transfer as soon as possible, and forget it."""
        self.engine.cancel(ticket)
        while self.engine.wait(ticket, _SLICE_MS):
            pass
        with self.lock:
            self.engine.collect(ticket)
            self.ended = [one for one in self.ended if one.ticket != ticket]
            self.begun.pop(ticket, None)

    def _end(self, result: Result) -> TransferError | None:
        job = self.begun[result.ticket]
        failed = job.end(result)
        del self.begun[result.ticket]
        return failed


def give_up(jobs: Jobs) -> None:
    """Wait for the transfers that nobody has waited for, and warn of those that failed."""
    if os.getpid() != jobs.process:
        return  # Its threads are the parent's.
    try:
        jobs.wait()
    except TransferError as error:
        lost = "; ".join(map(str, error.failures))
        warnings.warn(
            f"an aio_handle was dropped before wait(), and transfers failed: {lost}",
            RuntimeWarning,
            stacklevel=2,
        )
    jobs.engine.close()
