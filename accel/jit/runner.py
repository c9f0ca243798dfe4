"""Runs a build's ninja under the supervisor and waits for it, whatever happens to either."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from accel import environment
from accel.jit import supervisor
from accel.jit.toolchain import which

_TICK_MS = 100
_PATIENCE_S = 5.0


def run_supervised(
    command: Sequence[str], folder: Path, seconds: float, tick: Callable[[], bool]
) -> bool:
    """Run `command` in `folder` and return whether it ended by itself within `seconds`.

    Its exit status is not told: a process that ignores SIGCHLD could not know it.

    Everything that it started is dead when this returns or raises, and soon after this process
    ends in any way.

    Args:
        command: an absolute path and arguments.
        folder: working folder, also for temporary files.
        seconds: the most that it may take.
        tick: called about ten times a second; returning false ends the build.
    """
    import subprocess

    python = sys.executable or which("python3") or "python3"
    read_end, write_end = _pipe()
    script = [python, "-I", "-S", supervisor.__file__, str(read_end), str(os.getpid())]
    try:
        with (folder / "ninja.log").open("wb") as log:
            process = subprocess.Popen(
                [*script, *command],
                cwd=folder,
                env=environment.for_compiler(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(read_end,),
                start_new_session=True,
            )
        try:
            in_time = _wait(process.pid, seconds, tick)
        finally:
            # The supervisor takes the closed pipe for the end of this process and cleans up.
            os.close(write_end)
            write_end = -1
            _end(process.pid)
            process.wait()
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)
    return in_time


def _pipe() -> tuple[int, int]:
    """Return a pipe whose ends are no standard streams, should those be closed."""
    import fcntl

    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


def _wait(pid: int, seconds: float, tick: Callable[[], bool]) -> bool:
    """Return true when the process has ended, false when time is up or `tick` wants no more."""
    deadline = time.monotonic() + seconds
    ended = _ending_of(pid)
    poll = select.poll()
    if ended is not None:
        poll.register(ended, select.POLLIN)
    try:
        while not _has_ended(pid):
            if time.monotonic() > deadline or not tick():
                return False
            if ended is None:
                time.sleep(_TICK_MS / 5000)
            else:
                poll.poll(_TICK_MS)
        return True
    finally:
        if ended is not None:
            os.close(ended)


def _end(pid: int) -> None:
    """Give the supervisor time to clean up, and do it in its place where it was killed."""
    deadline = time.monotonic() + _PATIENCE_S
    while not _has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    if not _has_ended(pid):
        os.kill(pid, signal.SIGKILL)
    state = _state(pid)
    if state is None or state.si_code != os.CLD_EXITED:
        while supervisor.kill_session(pid, pid):
            time.sleep(0.01)


def _state(pid: int) -> os.waitid_result | None:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        # Whoever ignores SIGCHLD never sees the child again.
        return True


def _ending_of(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends, where the system has it."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
