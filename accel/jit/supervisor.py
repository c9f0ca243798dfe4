"""Runs ninja and sees that nothing of the build outlives the process that asked for it.

Run as a script: ``python -I -S supervisor.py LIFELINE PARENT COMMAND...``. It imports as
little as can be, since every build waits for its start.
"""

import os
import select
import signal
import sys
import time

STOPPED = 125
_PR_SET_PDEATHSIG = 1


def main(lifeline: int, parent: int, command: list[str]) -> int:
    """Run `command` until it ends or the parent lets go or is gone; return its exit status.

    Args:
        lifeline: a pipe whose other end only the parent holds.
        parent: the parent's process id.
        command: the absolute path of ninja and its arguments.
    """
    os.set_inheritable(lifeline, False)
    if os.getsid(0) != os.getpid():
        # Everything of the session is killed at the end: it must hold nothing but this build.
        os.setsid()
    # Whatever the parent blocks or ignores is inherited, and would deafen ninja too.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    child = os.fork()
    if not child:
        _become(command)
    if _ends(child, lifeline, parent):
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            # A killed ninja leaves its compilers behind.
            _sweep()
        return status if status >= 0 else 128 - status
    _stop(child)
    return STOPPED


def _become(command: list[str]) -> None:
    """Turn into ninja, which is told to stop should this supervisor be killed."""
    try:
        import ctypes

        before = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == before:
            os.execv(command[0], command)
    finally:
        os._exit(127)


def _ends(child: int, lifeline: int, parent: int) -> bool:
    """Wait; return true when the child has ended, false when it has to."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    tick = 0.25
    try:
        poll.register(os.pidfd_open(child), select.POLLIN)
    except (AttributeError, OSError):
        tick = 0.01
    while True:
        # The forked children of the parent may hold the pipe open, hence the second question.
        ready = [fd for fd, _ in poll.poll(tick * 1000)]
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        if lifeline in ready or os.getppid() != parent:
            return False


def _stop(child: int) -> None:
    """Ask ninja to stop its compilers, then kill whatever is left."""
    os.kill(child, signal.SIGTERM)
    for _ in range(100):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.01)
    _sweep()


def _sweep() -> None:
    """Kill every process of this session but this one."""
    session = os.getsid(0)
    found = True
    while found:
        found = kill_session(session, os.getpid())
        if found:
            time.sleep(0.01)


def kill_session(session: int, spared: int = 0) -> bool:
    """Send SIGKILL to the live processes of a session; return whether there was one."""
    found = False
    for entry in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs a build 10 ms
        if not entry.isdigit() or int(entry) == spared:
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
                state, _, _, its_session = file.read().rpartition(b")")[2].split()[:4]
            if int(its_session) == session and state not in (b"Z", b"X"):
                os.kill(int(entry), signal.SIGKILL)
                found = True
        except OSError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
