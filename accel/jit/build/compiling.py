"""Runs of a plan's commands in a staging folder; a failure becomes a readable error."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

from accel import environment
from accel.errors import BuildFailed
from accel.jit.build import failures
from accel.jit.build.jobs import job_count
from accel.jit.build.progress import Progress
from accel.jit.build.supervised import Ended, run_supervised
from accel.jit.cache.elf import fault_of
from accel.jit.disk.safe_io import read_regular, write_private
from accel.jit.plan import Plan
from accel.jit.tools.asking import is_passing
from accel.jit.tools.messages import first_error
from accel.jit.tools.ninja import Command, ninja_file, shell_text
from accel.jit.tools.programs import find_ninja

# Faults of sources or flags: a place in a source, a symbol, an option, a target.
_OF_INPUTS = re.compile(
    r":\d+: (?:fatal )?(?:\S*error|Error|Fehler|erreur)\b|\(\d+\): (?:catastrophic )?error\b"
    r"|undefined (?:reference|symbol)|multiple definition|duplicate symbol|relocation|hidden symbol"
    r"|unrecogni[sz]ed|unknown (?:argument|option|value)|unsupported|unresolved extern"
    r"|dynamic reloc",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"No such file|[Cc]annot find|[Uu]nable to find|not found|[Cc]an(?:no|')t (?:find|open|read)"
)
# Signals by which a limit of the process ends a tool (setrlimit(2)).
_LIMIT_OF = {
    11: ", perhaps by a low limit on the stack (ulimit -s) or on memory (ulimit -v)",
    24: ", by the limit on processor time (ulimit -t)",
    25: ", by the limit on file sizes (ulimit -f)",
}
_MOST_LOG = 64 << 20
_LITTLE_SPACE = 64 << 10
_FEW_FILES = 64
_MEGABYTES = {"cuda": 1500, "torch": 1500, "c++": 300}


class Made(NamedTuple):
    """The bytes of a valid library, and the log of its build."""

    library: bytes
    log: bytes


def compile_plan(plan: Plan, staging: Path, root: Path, progress: Progress) -> Made:
    """Build ``NAME.so`` in `staging` and return its bytes and the log.

    Raises:
        BuildFailed: a step failed, took too long or printed without end, or left no library that
            can be mapped; the log is kept in `root` and named in the error.
        OSError: the staging folder cannot be written.
    """
    ninja = find_ninja()
    if ninja is None:
        raise BuildFailed(f"{plan.recipe.name}: ninja was not found. Run: pip install ninja")
    steps = ninja_file(plan.commands).encode("utf-8", "surrogateescape")
    write_private(staging / "build.ninja", steps)
    watch = _Watch(plan, staging, progress)
    kind = "torch" if plan.recipe.extension else plan.recipe.language
    jobs = job_count(len(plan.commands) - 1, _MEGABYTES[kind] << 20)
    seconds = environment.build_timeout()
    ended = run_supervised([ninja, "-v", "-j", str(jobs)], staging, seconds, watch)
    log = _log_of(plan, staging)
    why = _why(ended, seconds, watch.endless)
    fault = ""
    if not watch.endless and _all_done(plan, staging):
        library, fault = _left(staging / f"{plan.recipe.name}.so")
        if not fault:
            return Made(library, log)
    raise _failure(plan, staging, root, log, why, fault)


def _left(path: Path) -> tuple[bytes, str]:
    """Return the library that a compiler wrote, and its fault or ``""``."""
    try:
        library = read_regular(path)
    except FileNotFoundError:
        return b"", f"wrote no {path.name}"
    except OSError as error:
        return b"", f"the {path.name} that it wrote cannot be read: {error.strerror}"
    fault = fault_of(library)
    return library, f"the {path.name} that it wrote {fault}" if fault else ""


class _Watch:
    """Checks of the staging folder while ninja runs: progress, and endless output."""

    def __init__(self, plan: Plan, staging: Path, progress: Progress) -> None:
        self.commands = plan.commands
        self.staging = staging
        self.progress = progress
        self.endless = False

    def __call__(self) -> bool:
        done = [self._has(command, "code") for command in self.commands]
        # Each name once: a source may be compiled in several parts at a time.
        begun = dict.fromkeys(
            (command.source.name if command.source else "linking")
            for command, over in zip(self.commands, done, strict=True)
            if not over and self._has(command, "start")
        )
        self.progress.update(sum(done), ", ".join(begun))
        self.endless = any(
            _size(self.staging / f"{c.output}.log") > _MOST_LOG for c in self.commands
        )
        return not self.endless

    def _has(self, command: Command, suffix: str) -> bool:
        return (self.staging / f"{command.output}.{suffix}").exists()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_LOG)
    except OSError:
        return b""


def _text(path: Path) -> str:
    return _read(path).decode("utf-8", "replace")


def _code(command: Command, staging: Path) -> int | None:
    """Return a step's exit status, or ``None`` if it did not end."""
    text = _read(staging / f"{command.output}.code").strip()
    return int(text) if text.isdigit() else None


def _all_done(plan: Plan, staging: Path) -> bool:
    return all(_code(command, staging) == 0 for command in plan.commands)


def _log_of(plan: Plan, staging: Path) -> bytes:
    """Return every command with its output, then ninja's own output."""
    parts = [f"{plan.stem}\n{plan.compiler.label}\n".encode()]
    for command in plan.commands:
        text = shell_text(command.argv).encode("utf-8", "surrogateescape")
        code = _code(command, staging)
        begun = (staging / f"{command.output}.start").exists()
        ending = (
            f"exited with {code}" if code is not None else "did not end" if begun else "not run"
        )
        parts += [b"\n$ ", text, b"\n", _read(staging / f"{command.output}.log")]
        parts.append(f"[{ending}]\n".encode())
    return b"".join([*parts, b"\nninja:\n", _read(staging / "ninja.log")])


def _own_words(log: str) -> str:
    """Return ninja's own messages, without the commands that it prints."""
    return "\n".join(line for line in log.splitlines() if line.startswith("ninja:"))


def _why(ended: Ended, seconds: int, endless: bool) -> str:
    if endless:
        return f"the compiler printed more than {_MOST_LOG >> 20} MiB and was stopped"
    if not ended.in_time:
        return f"it took longer than {seconds} s and was stopped (ACCEL_BUILD_TIMEOUT changes that)"
    return f"ninja, which runs the compiler, {_by_signal(ended.signal)}" if ended.signal else ""


def _of_shell(log: str) -> str:
    """Return the steps' shells' messages about the system, ``""`` if there are none."""
    others = ("[", "FAILED", ": >", "ninja:", "accel-build:")
    lines = [line for line in log.splitlines() if line and not line.startswith(others)]
    few = next((line for line in log.splitlines() if "Too many open files" in line), "")
    return few or next((line for line in lines if is_passing(line)), "".join(lines[:1]))


def _few_files() -> str:
    """Return a hint if the limit on open files is low, which tools report in various ways."""
    most = os.sysconf("SC_OPEN_MAX")
    return (
        f" (this process may open only {most} files; raise the limit: ulimit -n)"
        if 0 < most < _FEW_FILES
        else ""
    )


def _cut_off(plan: Plan, failed: Command, staging: Path, log: str) -> str:
    """Return how a step ended if its shell left no exit status."""
    if not (staging / f"{failed.output}.start").exists():
        return f"{plan.compiler.label} was not started"
    # Newer versions of ninja report 128 plus the status of wait(2).
    code = re.search(r"^FAILED: \[code=(\d+)\]", log, re.MULTILINE)
    number = int(code[1]) - 128 & 127 if code and int(code[1]) > 128 else 0
    how = _by_signal(number) if number else "ended before it reported the compiler's exit status"
    return f"the shell that runs {plan.compiler.label} {how}"


def _by_signal(number: int) -> str:
    if number == 9:
        return "was killed (signal 9), probably for lack of memory; MAX_JOBS=1 may help"
    return f"was ended by signal {number}{_LIMIT_OF.get(number, '')}"


def _no_space(root: Path) -> str:
    """Return a message if the disk is full, which compilers may not survive to report."""
    try:
        facts = os.statvfs(root)
    except OSError:
        return ""
    full = facts.f_blocks and facts.f_bavail * facts.f_frsize < _LITTLE_SPACE
    return (
        f"No space left on the device of {root}; make room, or set ACCEL_CACHE_DIR" if full else ""
    )


def _failure(
    plan: Plan, staging: Path, root: Path, log: bytes, why: str, fault: str
) -> BuildFailed:
    if not staging.is_dir():
        raise FileNotFoundError(errno.ENOENT, "it was removed during the build", str(staging))
    failed, code = _first_failed(plan, staging)
    output, ninja = (_text(staging / name) for name in (f"{failed.output}.log", "ninja.log"))
    aside = "" if output.strip() else _of_shell(ninja)
    first = first_error(output) or aside or first_error(_own_words(ninja))
    path = failures.keep_log(root, plan.stem, log)
    ended = f"{plan.compiler.label} {_ending(code, first)}"
    if fault:
        command = plan.compiler.command[0]
        ended = f"{plan.compiler.label} ({command}) exited with 0, but {fault}"
    elif aside:
        ended = f"{plan.compiler.label} could not finish{_few_files()}"
    elif code is None:
        ended = _cut_off(plan, failed, staging, ninja) + _few_files()
    what = why or _no_space(root) or ended
    where = f"Command and output: {path}" if path else "The log could not be kept."
    detail = f": {first}" if first else ""
    return BuildFailed(
        f"{plan.recipe.name} ({plan.recipe.backend}): {what}{detail}\n  {where}",
        log_path=path,
        command=shell_text(failed.argv),
        first_error=first,
        certain=what == ended and path is not None and _is_certain(plan, failed, code, output),
    )


def _is_certain(plan: Plan, failed: Command, code: int | None, output: str) -> bool:
    """Return whether the step must fail again while the digest and the named files stay the same.

    A missing file may be installed, and a library that is found by name replaced, without a change
    to either of them.
    """
    if code is None or not 0 < code < 126 or not _OF_INPUTS.search(first_error(output)):
        return False
    if is_passing(output) or _MISSING.search(output):
        return False
    looked_up = any(flag.startswith("-l") for flag in plan.recipe.link_flags)
    return failed.source is not None or not looked_up


def _first_failed(plan: Plan, staging: Path) -> tuple[Command, int | None]:
    codes = [(command, _code(command, staging)) for command in plan.commands]
    for command, code in codes:
        if code:
            return command, code
    for command, code in codes:
        if code is None:
            return command, code
    return codes[-1]


def _ending(code: int | None, first: str) -> str:
    if code == 128 + 9 or "Killed signal" in first:
        return _by_signal(9)
    return _by_signal(code - 128) if code and code > 128 else f"exited with {code}"
