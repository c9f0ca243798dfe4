"""Running a build's ninja in a guarded session, and waiting for it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from accel import environment
from accel.host.process import start_time
from accel.jit.build import supervisor
from accel.jit.cache.trouble import remedy
from accel.jit.disk.safe_io import write_private
from accel.jit.tools.programs import which

_log = logging.getLogger(__name__)
_TICK_MS = 100
_PATIENCE_S = 1.0
_LOOK_S = 2.0
_MOST_SECONDS = 10**7
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StartFailed(Exception):
    """No process could be started for a build, because of a limit or a missing shell."""


class Ended(NamedTuple):
    """The end of a command.

    It has no exit status, which a process that ignores SIGCHLD cannot know.

    Attributes:
        in_time: whether the command ended by itself.
        signal: number of the signal that ended it; 0 if there was none or it is not known.
    """

    in_time: bool
    signal: int


def run_supervised(
    command: Sequence[str], folder: Path, seconds: float, tick: Callable[[], bool]
) -> Ended:
    """Run `command` in `folder` and return how it ended, by itself or by the time limit.

    All processes that it started are dead when this returns or raises, and soon after this process
    ends in any way. Stopped ones are continued.

    Args:
        command: an absolute path and arguments.
        folder: working folder, also for temporary files.
        seconds: the time limit.
        tick: called about ten times a second; returning false ends the build.

    Raises:
        StartFailed: no process can be started.
        OSError: `folder` cannot be written.
    """
    own = os.getpid()
    quarters = 4 * int(min(seconds, _MOST_SECONDS)) + 40
    arguments = (str(folder), str(own), str(start_time(own)), str(quarters))
    write_private(folder / "ninja.log", b"")
    with (folder / "ninja.log").open("wb") as log:
        argv = [supervisor.SHELL, "-c", supervisor.SCRIPT, "accel-build", *arguments, *command]
        pid = _spawn(argv, environment.for_compiler(folder), log.fileno())
    in_time, state = False, None
    try:
        in_time = _wait(pid, seconds, tick)
        state = _state(pid) if in_time else None
    finally:
        _end(pid, by_itself=in_time)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    killed = state is not None and state.si_code in {os.CLD_KILLED, os.CLD_DUMPED}
    return Ended(in_time, state.si_status if state is not None and killed else 0)


def _spawn(argv: list[str], env: dict[str, str], log: int) -> int:
    """Start a process in a session of its own, whatever signals this one ignores or blocks."""
    # Not a standard stream, even if those are closed.
    output = fcntl.fcntl(log, fcntl.F_DUPFD_CLOEXEC, 3)
    actions: list[tuple[object, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
        *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()),
    ]
    try:
        try:
            return os.posix_spawn(
                argv[0],
                argv,
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        except NotImplementedError:
            # Python was built for a C library older than this one.
            setsid = which("setsid") or "/usr/bin/setsid"
            return os.posix_spawn(
                setsid,
                [setsid, *argv],
                env,
                file_actions=actions,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
    except OSError as error:
        way = remedy(error) or f"Builds start with {supervisor.SHELL}; check that it runs here."
        raise StartFailed(
            f"no process can be started for the build ({error.strerror}). {way}"
        ) from error
    finally:
        os.close(output)


def _inheritable() -> Iterator[int]:
    """Yield descriptors beyond the standard ones that a new program would inherit.

    One above a limit that was lowered since cannot be closed for the new program, so the build
    inherits it; the build ends soon after the process that asked for it anyway.
    """
    limit = os.sysconf("SC_OPEN_MAX")
    with contextlib.suppress(OSError):
        for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                if 2 < int(entry) < limit and os.get_inheritable(int(entry)):
                    yield int(entry)


def _wait(pid: int, seconds: float, tick: Callable[[], bool]) -> bool:
    """Return true when the process has ended, false when time is up or `tick` returns false."""
    began = looked = time.monotonic()
    ended = _ending_of(pid)
    poll = select.poll()
    if ended is not None:
        poll.register(ended, select.POLLIN)
    try:
        while not _has_ended(pid):
            now = time.monotonic()
            if now - began > seconds or not tick():
                return False
            if now - looked > _LOOK_S:
                looked = now
                _continue_stopped(pid)
            if ended is None:
                time.sleep(_TICK_MS / 5000)
            else:
                poll.poll(_TICK_MS)
        return True
    finally:
        if ended is not None:
            os.close(ended)


def _continue_stopped(leader: int) -> None:
    """Continue stopped processes of the build, for which this process would wait."""
    for pid, state in supervisor.session(leader):
        if state == "T":
            _log.warning("process %d of the build was stopped; continuing it.", pid)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)


def _end(pid: int, *, by_itself: bool) -> None:
    """End the guards and all other processes of the build."""
    state = _state(pid)
    if not by_itself:
        _signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE_S
        while not _has_ended(pid) and time.monotonic() < deadline:
            time.sleep(0.005)
    elif state is not None and (state.si_code, state.si_status) == (os.CLD_EXITED, 0):
        _signal_group(pid, signal.SIGKILL)
        return
    # A killed ninja leaves its compilers behind.
    deadline = time.monotonic() + _PATIENCE_S
    while supervisor.kill_session(pid) and time.monotonic() < deadline:
        time.sleep(0.01)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _state(pid: int) -> os.waitid_result | None:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        # A process that ignores SIGCHLD never sees the child again.
        return True


def _ending_of(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends, if the system has it."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
