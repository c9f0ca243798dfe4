"""Failures of the machine during a load, as text, kept for `accel explain` in later processes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from accel.errors import AccelError
from accel.jit.cache.store import FAILED
from accel.jit.disk import location
from accel.jit.disk.safe_io import read_regular, write_atomic

_PROCESSES = "Raise the limit on processes and threads (ulimit -u, or the container's)."
_MEMORY = "Raise the limit on memory (ulimit -v, or the container's)."
_WAYS = {
    errno.ENOSPC: "Make room, or set ACCEL_CACHE_DIR to another folder.",
    errno.EDQUOT: "Make room within the quota, or set ACCEL_CACHE_DIR to another folder.",
    errno.EMFILE: "Raise the limit on open files (ulimit -n), or close some.",
    errno.ENFILE: "Too many files are open on this machine; close some.",
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _PROCESSES,
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f).",
    errno.E2BIG: "Raise the limit on the stack (ulimit -s), or set fewer or shorter variables.",
}
LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EFBIG})
"""Numbers of system errors that a limit of this process causes, not a file."""
_BY_WORDS = (
    ("new thread", f"{_PROCESSES} A thread may also lack memory (ulimit -v)."),
    ("shutdown", "Load ops before the program ends."),
    ("memory", _MEMORY),
)
_A_DAY_S = 24 * 3600.0
_MOST_TEXT = 1 << 16


def remedy(error: BaseException) -> str:
    """Return a remedy for a system error, ``""`` if none is known."""
    if isinstance(error, MemoryError):
        return _MEMORY
    known = _WAYS.get(error.errno or 0) if isinstance(error, OSError) else None
    text = str(error)
    return known or next((way for words, way in _BY_WORDS if words in text), "")


def describe(error: BaseException) -> str:
    """Return an error's text: accel's own unchanged, others with name and remedy."""
    if isinstance(error, AccelError):
        return str(error)
    text = f": {str(error).rstrip('.')}" if str(error) else ""
    return f"{type(error).__name__}{text}. {remedy(error)}".rstrip()


class Note(NamedTuple):
    """A load that did not get its native library.

    Attributes:
        reason: why.
        when: seconds since 1970.
        pid: the process.
    """

    reason: str
    when: float
    pid: int

    def __str__(self) -> str:
        """Return the note as text."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.when))
        return f"{when}, process {self.pid}: {self.reason}"


def _place(backend: str, op: str) -> Path:
    return location.locate().path / FAILED / f"load-{backend}-{op}.json"


def keep_note(backend: str, op: str, reason: str) -> None:
    """Record why a load has no native library; a record that cannot be written is skipped."""
    note = Note(reason[:_MOST_TEXT], time.time(), os.getpid())
    with contextlib.suppress(Exception):
        path = _place(backend, op)
        location.prepare()
        write_atomic(path, json.dumps(note).encode())


def last_note(backend: str, op: str) -> Note | None:
    """Return the record of the last such load within a day; raises nothing."""
    try:
        facts = json.loads(read_regular(_place(backend, op), limit=1 << 20, follow=False))
        note = Note(str(facts[0]), float(facts[1]), int(facts[2]))
        return note if 0 <= time.time() - note.when < _A_DAY_S else None
    except (AccelError, OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
