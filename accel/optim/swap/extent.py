"""`Extent`: a file with the states of some parameters, mapped so that each state is a tensor.

All tensors of one state follow each other in the file, so that a part of many small tensors, or of
a large one, is one transfer for each state.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from accel.ops.checks import is_dense
from accel.optim.swap.record import Field, Layout, Place

PAGE = 4096
"""Elements from which transfers begin, so that they are whole pages for every element type."""

_ALIGNMENT = 64

Fields = tuple[tuple[str, torch.dtype], ...]
"""Keys of states with their element types."""


class Slot(NamedTuple):
    """A parameter's place.

    Attributes:
        extent: the file.
        start: its first element in each state.
        numel: how many elements it has.
        tensors: its states, in the file's memory.
    """

    extent: Extent
    start: int
    numel: int
    tensors: dict[str, Tensor]


class Piece(NamedTuple):
    """Elements `start` to `stop` of parameter number `param`, at `offset` in their bucket."""

    param: int
    start: int
    stop: int
    offset: int


class Bucket(NamedTuple):
    """Elements `start` to `stop` of each state in a file, transferred and stepped together.

    Attributes:
        extent: the file.
        start: the first element, at a page.
        stop: the element after the last, at a page.
        pieces: the parts of parameters in it.
    """

    extent: Extent
    start: int
    stop: int
    pieces: list[Piece]


class Extent:
    """A new file.

    Args:
        path: the file, which must not exist.
        fields: the states.
        params: the parameters, on the host.
        group: index of their group: buckets of different groups share no page.

    Attributes:
        slots: the place of each parameter.
        params: the parameters; ``None`` for one that has left.

    Raises:
        OSError: the file cannot be made, or there is no space for it.
    """

    def __init__(self, path: Path, fields: Fields, params: Sequence[Tensor], group: int) -> None:
        self.path = path
        self.fields = fields
        self.group = group
        starts, self._elements = _starts(params)
        self._offsets: dict[str, int] = {}
        size = 0
        for key, dtype in fields:
            self._offsets[key] = size
            size += self._elements * dtype.itemsize
        self.size = size
        self._memory = _made(path, size)
        first = torch.frombuffer(self._memory, dtype=torch.uint8, count=1)
        self._address = first.data_ptr()
        self.slots = [
            Slot(self, start, param.numel(), self._tensors(start, param))
            for start, param in zip(starts, params, strict=True)
        ]
        self.params: list[Tensor | None] = [*params]
        self.settled()

    def _tensors(self, start: int, param: Tensor) -> dict[str, Tensor]:
        return {
            key: tensor_at(
                self._memory, self.offset(key, dtype, start), dtype, param.shape, strides(param)
            )
            for key, dtype in self.fields
        }

    def offset(self, key: str, dtype: torch.dtype, element: int) -> int:
        """Return the offset in the file of an element of a state."""
        return self._offsets[key] + element * dtype.itemsize

    def holds(self, tensor: Tensor) -> bool:
        """Return whether a tensor's memory is this file's."""
        return self._address <= tensor.data_ptr() < self._address + self.size

    def width(self) -> int:
        """Return how many bytes one element of all states has."""
        return sum(dtype.itemsize for _, dtype in self.fields)

    def settled(self) -> None:
        """Remember how the file is now; a missing one is left for `fault`."""
        with contextlib.suppress(OSError):
            self._facts = self._look()
        self._versions = self._changes()

    def fault(self) -> str:
        """Return what somebody else did to the file since `settled`, ``""`` for nothing."""
        try:
            facts = self._look()
        except OSError as error:
            return f"cannot be found any more ({error.strerror})"
        if facts[0] != self._facts[0]:
            return "was replaced by another file"
        if facts[1] != self._facts[1]:
            return f"has {facts[1]} bytes instead of {self._facts[1]}"
        # The program itself may change the tensors of the state.
        if facts[2] != self._facts[2] and self._changes() == self._versions:
            return "was changed by somebody else"
        return ""

    def _look(self) -> tuple[int, int, int]:
        facts = self.path.lstat()
        return facts.st_ino, facts.st_size, facts.st_mtime_ns

    def _changes(self) -> int:
        return sum(tensor._version for slot in self.slots for tensor in slot.tensors.values())

    def layout(self, numbers: Mapping[Tensor, int]) -> Layout:
        """Return a record of the file; `numbers` has the parameters' numbers in a state dict."""
        places = []
        for param, slot in zip(self.params, self.slots, strict=True):
            tensor = slot.tensors[self.fields[0][0]]
            number = -1 if param is None else numbers.get(param, -1)
            places.append(Place(number, slot.start, tuple(tensor.shape), tensor.stride()))
        fields = [
            Field(key, str(dtype).removeprefix("torch."), self._offsets[key])
            for key, dtype in self.fields
        ]
        return Layout(self.path.name, self.size, fields, places)


def buckets(slots: Sequence[tuple[int, Slot]], room: int) -> Iterator[Bucket]:
    """Yield buckets that cover some parameters' places, in the order of the files.

    Args:
        slots: parameters' indices and places; each place once.
        room: the most bytes that the states of a bucket may have.
    """
    by_extent: dict[int, list[tuple[int, Slot]]] = {}
    for index, slot in slots:
        by_extent.setdefault(id(slot.extent), []).append((index, slot))
    for listed in by_extent.values():
        listed.sort(key=lambda entry: entry[1].start)
        extent = listed[0][1].extent
        yield from _cut(extent, listed, room // extent.width() // PAGE * PAGE)


def _cut(extent: Extent, slots: Sequence[tuple[int, Slot]], most: int) -> Iterator[Bucket]:
    pieces: list[Piece] = []
    begin = end = 0
    for index, slot in slots:
        at, last = slot.start, slot.start + slot.numel
        while at < last:
            if pieces and at >= begin + most:
                yield Bucket(extent, begin, -(-end // PAGE) * PAGE, pieces)
                pieces = []
            if not pieces:
                begin = at // PAGE * PAGE
            end = min(last, begin + most)
            pieces.append(Piece(index, at - slot.start, end - slot.start, at - begin))
            at = end
    if pieces:
        yield Bucket(extent, begin, -(-end // PAGE) * PAGE, pieces)


def strides(param: Tensor) -> tuple[int, ...]:
    """Return the strides of a parameter's states: its own if it fills its memory."""
    if is_dense(param):
        return param.stride()
    return torch.empty(param.shape, dtype=param.dtype, device="meta").stride()


def tensor_at(
    memory: mmap.mmap,
    offset: int,
    dtype: torch.dtype,
    shape: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    """Return a tensor over a part of a mapping, with a storage of its own, which can be saved."""
    numel = torch.Size(shape).numel()
    if not numel:
        return torch.empty_strided(shape, stride, dtype=dtype, device="cpu")
    flat = torch.frombuffer(memory, dtype=dtype, count=numel, offset=offset)
    empty = torch.empty(0, dtype=dtype, device="cpu")
    return empty.set_(flat.untyped_storage(), 0, torch.Size(shape), tuple(stride))


def _starts(params: Sequence[Tensor]) -> tuple[list[int], int]:
    starts, end = [], 0
    for param in params:
        starts.append(end)
        end += -(-param.numel() // _ALIGNMENT) * _ALIGNMENT
    return starts, max(1, -(-end // PAGE)) * PAGE


def _made(path: Path, size: int) -> mmap.mmap:
    """Return the mapping of a new file of zeros whose blocks are reserved."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        # A file with holes would end the process if a mapped page found the disk full.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            os.ftruncate(fd, size)
        return mmap.mmap(fd, size)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(fd)
