"""`Store`: the states of one optimizer in files, from the first step to the end."""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.errors import AccelError, SwapFailed
from accel.optim.swap.extent import Extent, Fields, Slot
from accel.optim.swap.folder import SwapFolder
from accel.optim.swap.record import PREFIX
from accel.optim.swap.stream import Stream, Work, check_limit, uninterrupted

if TYPE_CHECKING:
    from accel.optim.stepped import SteppedOptimizer

_FILES = "raise the limit (ulimit -n), or use fewer parameter groups: each has a file"
_ADVICE = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EFBIG: "raise the limit on a file's size (ulimit -f), or choose another folder",
}


class Store:
    """The files, buffers and record of one optimizer's states.

    Between steps, the optimizer's state has tensors in the files' memory. A step does not touch
    these: it transfers the files' bytes to and from its buffers.

    Args:
        path: the folder.
        limit: the most bytes of buffers.
        keep: whether the files stay after the end.

    Attributes:
        stream: the buffers.
        slots: each parameter's place.
        extents: the files.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, named.
        SwapFailed: the folder cannot be used.
    """

    def __init__(self, path: Any, limit: int, *, keep: bool) -> None:
        check_limit(limit)
        self._folder = SwapFolder(path, keep=keep)
        self.stream = Stream(limit)
        self.slots: dict[Tensor, Slot] = {}
        self.extents: list[Extent] = []
        self._made = 0
        self._laid_out: list[int] | None = None
        self._queue: list[tuple[Callable[[], None], list[Work]]] = []
        self._end = weakref.finalize(self, self._folder.end)

    def check(self) -> None:
        """Raise unless the files are as the last step left them.

        Raises:
            AccelError: it is closed, or made by another process.
            SwapFailed: a file is missing or was changed, or a step failed before; the states are
                lost then.
        """
        folder = self._folder
        if not self._end.alive:
            raise AccelError("the optimizer is closed, and its states are gone; make another.")
        if os.getpid() != folder.process:
            raise AccelError(
                f"swap_dir is {folder.path}, whose files belong to process {folder.process}, and "
                f"this is process {os.getpid()}, forked from it; make an optimizer with a folder "
                f"of its own here."
            )
        if not folder.broken:
            faults = (f"{one.path} {fault}" for one in self.extents if (fault := one.fault()))
            folder.broken = next(faults, "")
        if folder.broken:
            raise SwapFailed(
                f"swap_dir is {folder.path}, but {folder.broken}: the states are lost. Make a new "
                f"optimizer, and load the last checkpoint into it and into the model."
            )

    def close(self) -> None:
        """Remove the files, or bring them to the disk if they are to stay; once."""
        self.stream.close()
        self._end()
        # Each refers to its places, and these to it; a mapping keeps space of a removed file.
        for extent in self.extents:
            extent.slots = []
        self.extents, self.slots = [], {}

    def queue(self, direct: Callable[[], None], works: list[Work]) -> None:
        """Add a group's step to those that `flush` does.

        Args:
            direct: steps the tensors that are stepped in the files' memory.
            works: the buckets.
        """
        self._queue.append((direct, works))

    def drop(self) -> None:
        """Forget the queued steps."""
        self._queue = []

    def flush(self, optimizer: SteppedOptimizer) -> None:
        """Do the queued steps, and record that they are complete.

        Raises:
            SwapFailed: as `changing`.
        """
        if not self._queue:
            return
        with uninterrupted(), self.changing(optimizer, steps=1):
            # First, since what is stepped in the files' memory may share pages with a bucket.
            for direct, _ in self._queue:
                direct()
            self.stream.run([work for _, works in self._queue for work in works])

    @contextlib.contextmanager
    def changing(self, optimizer: SteppedOptimizer, *, steps: int = 0) -> Iterator[None]:
        """Mark the files as being changed, and afterwards as those of a complete step.

        Args:
            optimizer: the optimizer.
            steps: how many steps are done.

        Raises:
            SwapFailed: the record has no space, and nothing has changed; or a transfer or the
                record failed, and the states are lost.
        """
        record = self._folder.record
        self._lay_out(optimizer)
        try:
            yield
            record.end(record.step + steps, self._counters(optimizer))
            self.settled()
        except BaseException as error:
            others = [str(one) for one in self.stream.drain()]
            said = "; ".join([str(error) or type(error).__name__, *others])
            self._folder.broken = f"step {record.step + 1} ended in the middle: {said}"
            if isinstance(error, OSError):
                self.check()
            raise

    def _lay_out(self, optimizer: SteppedOptimizer) -> None:
        """Begin a change, with all space that its record needs; raises `SwapFailed`."""
        record, numbers = self._folder.record, _numbers(optimizer)
        try:
            record.begin()
            if self._laid_out != [*map(id, numbers)]:
                record.lay_out([extent.layout(numbers) for extent in self.extents])
                self._laid_out = [*map(id, numbers)]
        except OSError as error:
            raise self.refusal(error) from None

    def touch(self) -> None:
        """Mark the files as being changed, until the next complete step; raises `OSError`."""
        self._laid_out = None
        self._folder.record.begin()

    def settled(self) -> None:
        """Remember how the files are now, so that changes by others are found."""
        for extent in self.extents:
            extent.settled()

    def extent(self, fields: Fields, params: Sequence[Tensor], group: int) -> Extent:
        """Return a new file for some parameters of a group; raises `SwapFailed`."""
        path = self._folder.path / f"{PREFIX}-{self._made}.states"
        self._made += 1
        try:
            with torch.inference_mode(False):
                return Extent(path, fields, params, group)
        except OSError as error:
            raise self.refusal(error) from None

    def place(self, slots: dict[Tensor, Slot]) -> None:
        """Give parameters their places, and remove the files that none is in any more."""
        for param in slots:
            self._leave(param)
        self.slots.update(slots)
        for slot in slots.values():
            if slot.extent not in self.extents:
                self.extents.append(slot.extent)
        self._folder.files = [extent.path for extent in self.extents]
        for extent in [one for one in self.extents if not any(map(_is_there, one.params))]:
            self.remove(extent)

    def keep_only(self, params: set[Tensor]) -> None:
        """Forget the places of parameters that are not the optimizer's any more."""
        for param in [one for one in self.slots if one not in params]:
            self._leave(param)
            del self.slots[param]

    def remove(self, extent: Extent) -> None:
        """Remove a file."""
        self.extents = [one for one in self.extents if one is not extent]
        extent.path.unlink(missing_ok=True)
        self._folder.files = [one.path for one in self.extents]

    def refusal(self, error: OSError) -> SwapFailed:
        """Return the error of a file that cannot be made or filled; no state has changed."""
        path = self._folder.path
        facts = os.statvfs(path)
        free = facts.f_bavail * facts.f_frsize
        otherwise = f"{free} bytes are free there. Make room, or choose another folder"
        advice = _ADVICE.get(error.errno or 0, otherwise)
        return SwapFailed(
            f"swap_dir is {path}, where the states cannot be kept: {error.strerror or error}; "
            f"{advice}. No parameter has been changed."
        )

    def _leave(self, param: Tensor) -> None:
        old = self.slots.get(param)
        if old is not None:
            listed = old.extent.params
            listed[:] = [None if one is param else one for one in listed]

    def _counters(self, optimizer: SteppedOptimizer) -> list[float]:
        params = [param for extent in self.extents for param in extent.params]
        states = [{} if param is None else optimizer.state.get(param, {}) for param in params]
        return [float(state.get("step", 0.0)) for state in states]


def _numbers(optimizer: SteppedOptimizer) -> dict[Tensor, int]:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    return {param: number for number, param in enumerate(dict.fromkeys(params))}


def _is_there(param: Tensor | None) -> bool:
    return param is not None
