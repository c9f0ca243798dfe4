"""The record beside states in files: which tensors they are, and whether a step is complete."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accel.jit.disk import safe_io

PREFIX = "accel-swap"
LOCK, LAYOUT, PROGRESS = (f"{PREFIX}.{name}" for name in ("lock", "layout", "progress"))
STEPPING, COMPLETE, CLOSED = b"S", b"C", b"K"
_FORMAT = 1
_HEAD = struct.Struct("<c7xqq")
"""The mark, the number of the optimizer's last complete step, and how many counters follow."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MOST = 1 << 28


class Field(NamedTuple):
    """One state of all tensors in a file.

    Attributes:
        key: its key in the optimizer's state.
        dtype: its element type, by name.
        offset: offset of its first byte in the file.
    """

    key: str
    dtype: str
    offset: int


class Place(NamedTuple):
    """A parameter's elements in a file.

    Attributes:
        number: the parameter's number in a state dict.
        start: its first element in each field.
        shape: its shape.
        stride: the strides of its states.
    """

    number: int
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Layout(NamedTuple):
    """One file.

    Attributes:
        name: its name.
        size: its bytes.
        fields: its fields.
        places: its parameters, in the order of their counters.
    """

    name: str
    size: int
    fields: Sequence[Field]
    places: Sequence[Place]


class Found(NamedTuple):
    """The record that a process has left behind.

    Attributes:
        pid: the process.
        keep: whether the files were to stay.
        mark: `STEPPING`, `COMPLETE` or `CLOSED`.
        step: the number of the last complete step.
        same_boot: whether the machine has not restarted since.
        counters: each parameter's number of steps, in the order of the files' places.
        layouts: the files.
    """

    pid: int
    keep: bool
    mark: bytes
    step: int
    same_boot: bool
    counters: Sequence[float]
    layouts: Sequence[Layout]

    def fault(self) -> str:
        """Return why there is no complete step, as a clause; ``""`` if there is one."""
        if self.mark == STEPPING:
            return f"its process {self.pid} ended in the middle of step {self.step + 1}"
        if self.mark == COMPLETE and not self.same_boot:
            return "the machine has restarted since, so that not all data may be on the disk"
        return ""


class Record:
    """The two files of the record, as their writer uses them.

    Args:
        folder: the folder, which is locked.
        keep: whether the files stay after the end.
    """

    def __init__(self, folder: Path, *, keep: bool) -> None:
        self._folder = folder
        self._keep = keep
        self.step = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(folder / PROGRESS, flags, 0o600)
        os.pwrite(self._fd, _HEAD.pack(STEPPING, 0, 0), 0)

    def lay_out(self, layouts: Sequence[Layout]) -> None:
        """Write which tensors the files have, and reserve their counters; raises `OSError`."""
        facts = {
            "format": _FORMAT,
            "pid": os.getpid(),
            "boot": _boot(),
            "keep": self._keep,
            "files": layouts,
        }
        safe_io.write_atomic(self._folder / LAYOUT, json.dumps(facts).encode())
        if hasattr(os, "posix_fallocate"):
            counters = sum(len(layout.places) for layout in layouts)
            os.posix_fallocate(self._fd, 0, _HEAD.size + 8 * counters)

    def begin(self) -> None:
        """Mark the files as being changed; raises `OSError`."""
        os.pwrite(self._fd, STEPPING, 0)

    def end(self, step: int, counters: Sequence[float]) -> None:
        """Mark the files as those of a complete step; raises `OSError`."""
        # The mark comes last: a process that is killed between the writes leaves no mixture.
        os.pwrite(self._fd, struct.pack(f"<{len(counters)}d", *counters), _HEAD.size)
        os.pwrite(self._fd, _HEAD.pack(STEPPING, step, len(counters)), 0)
        os.pwrite(self._fd, COMPLETE, 0)
        self.step = step

    def close(self, files: Sequence[Path]) -> None:
        """Bring everything to the disk, and mark it so; raises `OSError`."""
        complete = os.pread(self._fd, 1, 0) == COMPLETE
        for path in files:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        os.fsync(self._fd)
        if complete:
            os.pwrite(self._fd, CLOSED, 0)
            os.fsync(self._fd)

    def forget(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


def find(folder: Path) -> Found | None:
    """Return the record in a folder; ``None`` if there is none.

    Raises:
        OSError: a file cannot be read.
        ValueError: the record is damaged.
    """
    try:
        text = safe_io.read_regular(folder / LAYOUT, limit=_MOST, follow=False)
        progress = safe_io.read_regular(folder / PROGRESS, limit=_MOST, follow=False)
    except FileNotFoundError:
        return None
    try:
        return _parsed(json.loads(text), progress)
    except (KeyError, TypeError, struct.error, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _parsed(facts: dict[str, Any], progress: bytes) -> Found:
    if facts["format"] != _FORMAT:
        raise ValueError(f"its format is {facts['format']!r}, not {_FORMAT}")
    mark, step, count = _HEAD.unpack_from(progress)
    layouts = [
        Layout(
            Path(name).name,
            int(size),
            [Field(*field) for field in fields],
            [Place(at, start, tuple(shape), tuple(stride)) for at, start, shape, stride in places],
        )
        for name, size, fields, places in facts["files"]
    ]
    if mark != STEPPING and count != sum(len(layout.places) for layout in layouts):
        raise ValueError(f"it has {count} counters, which is not one for each parameter")
    counters = struct.unpack_from(f"<{count}d", progress, _HEAD.size)
    same_boot = facts["boot"] == _boot()
    keep = bool(facts["keep"])
    return Found(int(facts["pid"]), keep, mark, step, same_boot, counters, layouts)


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
