"""Running one short tool, bounded in time and output, which never outlives this process."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from accel.jit.tools.messages import first_error

_MOST_OUTPUT = 1 << 20
# The shell's input is a pipe that only this process holds. It closes however this process ends, and
# a watcher then ends the whole group. The status is printed, since a process that ignores SIGCHLD
# gets none.
_SHELL = """umask u=rwx; mark=$1 text=$2; shift 2; exec 3<&0
{ read -r _ <&3; kill -9 0; } >/dev/null 2>&1 &
printf '%s' "$text" | "$@" 3<&-
printf '\\n%s %s\\n' "$mark" "$?"
"""


class ToolResult(NamedTuple):
    """The result of a tool: its `code` (negative: a signal), its output, and its `trouble`.

    `trouble` is the reason why there is no usable answer, ``""`` if there is one.
    """

    code: int
    output: str
    trouble: str = ""


def run_tool(
    command: Sequence[str],
    *,
    text: str = "",
    env: Mapping[str, str] | None = None,
    seconds: float = 10.0,
) -> ToolResult:
    """Run a tool, with `text` as its input, and return its result; its failures never raise.

    A tool that takes longer than `seconds` or prints more than 1 MiB is killed with its children,
    as they are when this process ends in any way. The code is 127 for a tool that could not be
    run, and -9 for one that was killed here.
    """
    import subprocess

    mark = f"accel-{os.urandom(8).hex()}"
    try:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _SHELL, "sh", mark, text, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )
    except (OSError, ValueError, MemoryError) as error:
        return ToolResult(127, "", f"cannot be run: {error}")
    assert shell.stdin is not None and shell.stdout is not None
    end = re.compile(rb"\n" + mark.encode() + rb" (\d+)\n\Z")
    try:
        output, trouble = _collect(shell.stdout.fileno(), seconds, end)
    finally:
        kill_group(shell.pid)
        shell.stdin.close()
        shell.stdout.close()
        shell.wait()
    return _result(output, end.search(output), trouble)


def _result(output: bytes, end: re.Match[bytes] | None, trouble: str) -> ToolResult:
    text = output[: end.start() if end else None].decode("utf-8", "replace")
    if trouble or end is None:
        return ToolResult(-9, text, trouble or "was ended before it answered")
    code = int(end[1])
    if code:
        said = first_error(text) or "no output"
        # A shell reports a signal in this way.
        code = 128 - code if code > 128 else code
        how = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
        trouble = f"{how} ({said[:200]})"
    return ToolResult(code, text, trouble)


def kill_group(group: int) -> None:
    """Send SIGKILL to a process group that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _collect(fd: int, seconds: float, end: re.Pattern[bytes]) -> tuple[bytes, str]:
    """Return the output up to `end`, and why there was no end; children may still print."""
    deadline = time.monotonic() + seconds
    output = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(output) <= _MOST_OUTPUT:
        left = deadline - time.monotonic()
        if left <= 0:
            return output, f"did not answer within {seconds:g} s"
        if poll.poll(left * 1000):
            part = os.read(fd, 65536)
            output += part
            if not part or end.search(output[-100:]):
                return output, ""
    return output, "printed more than 1 MiB"
