"""Running one short tool: bounded in time and output, with whatever it started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_MOST_OUTPUT = 1 << 20


class ToolResult(NamedTuple):
    """What a tool did: `code` (negative: the signal that ended it), its output, its failing.

    `trouble` says in words why there is no usable answer, ``""`` where there is one.
    """

    code: int
    output: str
    trouble: str = ""


def run_tool(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, seconds: float = 20.0
) -> ToolResult:
    """Run a tool with no input and return its output; never raises for what the tool does.

    A tool that takes longer than `seconds` or prints more than 1 MiB is killed with its children.
    """
    import subprocess

    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )
    except (OSError, ValueError) as error:
        return ToolResult(127, "", f"cannot be run: {error}")
    with process:
        assert process.stdout is not None
        output, trouble = _collect(process.stdout.fileno(), seconds)
        if trouble:
            kill_group(process.pid)
        code = process.wait()
    text = output.decode("utf-8", "replace")
    if not trouble and code:
        last = text.strip().splitlines()[-1:] or ["no output"]
        how = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
        trouble = f"{how} ({last[0][:200]})"
    return ToolResult(code, text, trouble)


def kill_group(group: int) -> None:
    """Send SIGKILL to a process group that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _collect(fd: int, seconds: float) -> tuple[bytes, str]:
    deadline = time.monotonic() + seconds
    parts: list[bytes] = []
    size = 0
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while size <= _MOST_OUTPUT:
        left = deadline - time.monotonic()
        if left <= 0:
            return b"".join(parts), f"did not answer within {seconds:g} s"
        if poll.poll(left * 1000):
            part = os.read(fd, 65536)
            if not part:
                return b"".join(parts), ""
            parts.append(part)
            size += len(part)
    return b"".join(parts), "printed more than 1 MiB"
