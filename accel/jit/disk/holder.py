"""The holder of a build's lock, and whether to wait for it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from accel.host import process

# Holders touch the lock ten times a second; on a busy machine they may be much later.
_SILENCE_S = 10.0
_STOPPED_S = 1.0
_TELL_S = 5.0
_TELL_AT_MOST_EVERY_S = 300.0
_LOOK_S = 0.25
_MOST_RECORD = 4096


def record() -> bytes:
    """Return the record that a holder writes into its lock: process, host and time."""
    own = os.getpid()
    facts = {
        "pid": own,
        "began": process.start_time(own),
        "host": process.machine(),
        "node": os.uname().nodename,
        "since": time.time(),
    }
    return json.dumps(facts).encode()


class Holder(NamedTuple):
    """The holder of a lock.

    Attributes:
        mark: changes while the holder is at work: the lock file's number and time.
        who: process, host and time, as text.
        pid: its process id, 0 if it is another machine's or not known.
        stopped: whether it is stopped, as by Ctrl-Z.
    """

    mark: tuple[int, int]
    who: str
    pid: int
    stopped: bool


def look(path: Path) -> Holder | None:
    """Return the holder of the lock at `path`; ``None`` if the file no longer exists."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        facts = os.fstat(fd)
        text = os.read(fd, _MOST_RECORD)
    except OSError:
        return None
    finally:
        os.close(fd)
    mark = (facts.st_ino, facts.st_mtime_ns)
    pid, who = _parse_record(text) or _holder_by_kernel(facts.st_ino)
    return Holder(mark, who, pid, _state(pid) == "T")


def _parse_record(text: bytes) -> tuple[int, str] | None:
    """Return process id and description from a record; ``None`` if its process is gone."""
    try:
        fields = json.loads(text)
        pid, began, since = int(fields["pid"]), int(fields["began"]), float(fields["since"])
        host, node = str(fields["host"]), str(fields["node"])
        when = time.strftime("%H:%M:%S", time.localtime(since))
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return None
    name = "".join(letter if letter.isprintable() else "?" for letter in node[:80])
    who = f"process {pid} on {name}, since {when}"
    if host != process.machine():
        return 0, who
    return (pid, who) if process.start_time(pid) == began else None


def _holder_by_kernel(inode: int) -> tuple[int, str]:
    """Return the holder of a lock without a record, according to the kernel (proc(5))."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split()
        if "FLOCK" in words and "->" not in words and f":{inode} " in line:
            pid = int(words[4]) if words[4].isdigit() else 0
            if pid:
                return pid, f"process {pid} on this machine, which does not say what it builds"
    return 0, "an unknown process"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


class Waiting:
    """Periodic checks of a lock's holder while this process waits for the lock.

    Args:
        path: the lock's file.
        who: name of the build in messages.
        most: the longest time that a build may take, in seconds.
    """

    def __init__(self, path: Path, who: str, most: float) -> None:
        self._path = path
        self._who = who
        self._began = self._looked = self._alive = time.monotonic()
        self._deadline = self._began + most
        self._tell = self._began + _TELL_S
        self._ran = self._began
        self._mark: tuple[int, int] | None = None

    def warning(self) -> tuple[str, Holder | None]:
        """Return a warning that is due (``""``: none) and a holder not to wait for any longer."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return "", None
        self._looked = now
        holder = look(self._path)
        if holder is None:
            return "", None
        if holder.mark != self._mark:
            self._mark, self._alive = holder.mark, now
        if not holder.stopped:
            self._ran = now
        why = self._why_not(holder, now)
        if why:
            return f"{self._who}: its build is locked by {holder.who}, {why}.", holder
        if now < self._tell:
            return "", None
        waited = now - self._began
        self._tell = now + min(waited, _TELL_AT_MOST_EVERY_S)
        return f"{self._who}: waited {waited:.0f} s for its build by {holder.who}.", None

    def _why_not(self, holder: Holder, now: float) -> str:
        """Return why the holder is not worth waiting for, or ``""``."""
        here = "building it here instead"
        if now - self._ran > _STOPPED_S:
            way = f"Continue it (kill -CONT {holder.pid}) or end it"
            return f"which is stopped, perhaps by Ctrl-Z; {here}. {way}"
        if now - self._alive > _SILENCE_S:
            return f"which has shown no progress for {now - self._alive:.0f} s; {here}"
        if now > self._deadline:
            return f"for longer than a build may last; {here}"
        return ""


def take_away(path: Path, holder: Holder) -> bool:
    """Remove the lock that `holder` has, so that the next process makes a new one.

    Returns whether the holder's lock is gone. If the holder finishes its build after all, its
    result is published by a rename, like any other.
    """
    try:
        if os.lstat(path).st_ino == holder.mark[0]:
            path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
