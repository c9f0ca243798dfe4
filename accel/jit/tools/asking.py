"""Runs of tools with three outcomes: an answer, a refusal, or no answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from accel import environment
from accel.jit.tools.process import run_tool
from accel.record import Record

PATIENCE_S = 10.0
# Messages of a tool that lacked a resource for a moment, or was killed from outside.
_PASSING = re.compile(
    r"Killed|[Kk]ill signal|Terminated|terminated program|due to signal|died due to"
    r"|[Oo]ut of memory|out of space|memory exhausted|bad_alloc"
    r"|[Cc]annot (?:allocate|fork)|can't fork|\bfork: "
    r"|\bv?fork failed|posix_spawn|No space left|[Qq]uota exceeded"
    r"|File too large|[Ff]ile size limit|Too many open files"
    r"|Resource temporarily unavailable|Input/output error|Stale file handle|Text file busy"
    r"|Interrupted system call|Read-only file system|Bus error|Segmentation fault"
    r"|internal compiler error|Connection (?:refused|reset|timed out)|Permission denied"
    r"|error while loading shared libraries"
)


class Answered(Record):
    """The tool answered.

    Attributes:
        text: its output.
    """

    text: str


class Refused(Record):
    """The tool ended by itself with an error: its answer is no.

    Attributes:
        reason: how it ended and its last line.
        text: its output.
    """

    reason: str
    text: str


class Failed(Record):
    """The tool gave no answer: nothing is known, and nothing may be remembered.

    Attributes:
        reason: what kept it from answering.
    """

    reason: str


Answer = Answered | Refused | Failed


def ask(command: Sequence[str], text: str = "") -> Answer:
    """Ask a tool, with `text` as its input, and return one of the three outcomes."""
    result = run_tool(command, text=text, env=environment.for_compiler(), seconds=PATIENCE_S)
    if not result.trouble:
        return Answered(result.output)
    # From 126 on, the shell or a signal ended it, not the tool itself.
    if not 0 < result.code < 126 or is_passing(result.output):
        return Failed(result.trouble)
    return Refused(result.trouble, result.output)


def is_passing(output: str) -> bool:
    """Return whether a failed tool's message names a temporary cause."""
    return _PASSING.search(output) is not None
