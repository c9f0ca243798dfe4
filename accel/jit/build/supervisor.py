"""The shell script that ends a build when the process that asked for it is gone.

It is not Python because `sys.executable` is another program if Python is embedded or frozen; ninja
needs ``/bin/sh`` anyway.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

SHELL = "/bin/sh"
# This user can read the tools' output with any umask, which limits only others.
# Arguments: folder, owner's process id and start time, quarters of a second, command. The shell
# becomes the command and leads its session. Its guards end the whole session after the owner, the
# process that asked for the build, has ended; the second acts if the first was killed. Neither
# relies on a pipe, which forked children of the owner hold open, or on a process id alone, which
# another process may have by now.
SCRIPT = r"""
umask u=rwx
cd "$1" || exit 126
owner=$2 born=$3 left=$4
shift 4
facts_of() {
  facts=
  while read -r line || [ "$line" ]; do facts="$facts $line"; done < "/proc/$1/stat"
  facts=${facts##*) }
  [ "$facts" ]
} 2>/dev/null
lives() {
  facts_of "$owner" || { kill -0 "$owner" 2>/dev/null; return; }
  set -- $facts
  case $1 in [ZX]) return 1 ;; esac
  [ "$born" = 0 ] || [ "${20}" = "$born" ]
}
nap() { sleep 0.25 2>/dev/null || sleep 1; }
sweep() {
  found=
  for entry in /proc/[0-9]*; do
    facts_of "${entry#/proc/}" || continue
    set -- $facts
    case $1 in [ZX]) continue ;; esac
    if [ "$4" = $$ ] && [ "${entry#/proc/}" != "$me" ]; then
      kill -KILL "${entry#/proc/}" 2>/dev/null && found=1
    fi
  done
  [ "$found" ]
}
guard() {
  trap '' TERM HUP
  PATH=${PATH:+$PATH:}/usr/bin:/bin
  read -r me line < /proc/self/stat
  while lives && [ $((left -= 1)) -gt 0 ]; do nap || exit; done
  sleep "$1"
  kill -TERM -$$
  nap
  while sweep; do nap || exit; done
}
guard 2 <&- >/dev/null 2>&1 &
guard 0 <&- >/dev/null 2>&1 &
exec "$@"
"""


def session(leader: int) -> Iterator[tuple[int, str]]:
    """Yield process id and state (``R``, ``S``, ``T`` ...) of a session's live processes."""
    for entry in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs a build 10 ms
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
                state, _, _, its_session = file.read().rpartition(b")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(its_session) == leader and state not in (b"Z", b"X"):
            yield int(entry), state.decode()


def kill_session(leader: int) -> bool:
    """Send SIGKILL to the live processes of a session; return whether there was one."""
    found = False
    for pid, _ in session(leader):
        try:
            os.kill(pid, signal.SIGKILL)
            found = True
        except OSError:
            continue
    return found
