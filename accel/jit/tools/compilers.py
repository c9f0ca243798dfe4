"""The C++ and CUDA compilers of this machine, whose answers processes remember."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from accel import environment
from accel.errors import CacheUntrusted
from accel.jit.disk import location
from accel.jit.disk.lock import gate
from accel.jit.disk.safe_io import read_regular, sha256, write_atomic
from accel.jit.tools.compiler import Compiler, Identified, Unanswered
from accel.jit.tools.programs import program_of, stamp, which
from accel.probe import Rejected

_log = logging.getLogger(__name__)
# A new number makes every process ask again.
_QUESTIONS = 2
_known: dict[str, Compiler | Rejected] = {}
_warned: set[str] = set()


def find_cxx() -> Compiler | Rejected:
    """Return the C++ compiler: ``CXX`` if set, else the first of g++, clang++, c++ that works.

    Runs a compiler's preprocessor at most once per process, and not at all if the answer of the
    same file is remembered.
    """
    try:
        asked = environment.cxx()
    except ValueError as error:
        return Rejected(f"CXX cannot be split into words: {error}.", "Correct or unset CXX.")
    if asked:
        found = _cxx(asked)
        if isinstance(found, Rejected):
            reason = f"CXX={' '.join(asked)}: {found.reason.rstrip('.')}."
            return type(found)(reason, found.fix or "Correct or unset CXX.")
        return found
    refusals: list[str] = []
    silent: list[str] = []
    for program in ("g++", "clang++", "c++"):
        found = _cxx((program,))
        if isinstance(found, Compiler):
            if silent:
                _warn_once(f"{silent[0]}. Using {found.command[0]} in this process instead.")
            return found
        refusals.append(f"{program} {found.reason}")
        if isinstance(found, Unanswered):
            silent.append(refusals[-1])
    refusal = Unanswered if silent else Rejected
    return refusal(
        f"no C++ compiler works here: {'; '.join(refusals)}.",
        "Try again in a new process." if silent else "Install g++ or clang++, or set CXX.",
    )


def _cxx(words: tuple[str, ...]) -> Compiler | Rejected:
    """Return the facts about a C++ compiler that compiles for this process."""
    program = which(words[0])
    if program is None:
        return Rejected("was not found")
    found = _facts_of((program, *words[1:]), _identify_cxx)
    here = machine_here()
    if isinstance(found, Compiler) and found.machine not in {here, "other"}:
        return Rejected(
            f"{found.label} compiles for {found.machine}, and this process runs on {here}",
            "Set CXX to a compiler for this machine, or unset it.",
        )
    return found


def _identify_cxx(command: tuple[str, ...]) -> Identified | Rejected:
    from accel.jit.tools.identify import identify

    return identify(command)


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        _log.warning("%s", text)


def find_nvcc() -> Compiler | Rejected:
    """Return nvcc; runs it as rarely as `find_cxx` runs a compiler."""
    from accel.jit.tools import nvcc

    place = nvcc.locate()
    if isinstance(place, Rejected):
        return place
    return _facts_of((str(place.path),), lambda _: nvcc.identify(place))


def machine_here() -> str:
    """Return the kind of processor of this process's code, by its name in `Compiler.machine`."""
    machine = os.uname().machine
    if sys.maxsize < 1 << 32:
        return {"x86_64": "i386", "aarch64": "arm"}.get(machine, machine)
    for start in ("ppc64", "riscv", "loongarch"):
        if machine.startswith(start):
            return start
    return machine


def processor() -> str:
    """Return a digest of this processor's features, for flags that name ``native``.

    Raises `OSError` if the system does not report them.
    """
    text = read_regular(Path("/proc/cpuinfo")).decode("utf-8", "replace")
    wanted = r"^(?:model name|flags|Features|CPU part)\s*: .*$"
    return sha256("\n".join(sorted(set(re.findall(wanted, text, re.MULTILINE)))).encode())[:16]


def _facts_of(
    command: tuple[str, ...], identify: Callable[[tuple[str, ...]], Identified | Rejected]
) -> Compiler | Rejected:
    """Return the facts about a tool, asking it if none are known.

    A plain compiler's answer depends on its own file and is kept for other processes. A script's
    or launcher's may depend on the whole environment and on unknown files, so it is kept for
    this process only, as are failures.
    """
    key = _key(command)
    found: Compiler | Rejected | None = _known.get(key) or _kept(command, key)
    if found is not None:
        return found
    wide = sha256(
        f"{key} {_current_folder()} {environment.for_compiler()}".encode("utf-8", "surrogateescape")
    )
    with gate(f"tool {wide}"):
        found = _known.get(wide, _known.get(key))
        if found is not None:
            return found
        answer = identify(command)
        if isinstance(answer, Rejected):
            _known[wide] = answer
            return answer
        if answer.plain:
            _keep(key, answer.compiler, answer.parts)
        _known[key if answer.plain else wide] = answer.compiler
        return answer.compiler


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _kept(command: Sequence[str], key: str) -> Compiler | None:
    """Return the facts that another process kept, if nothing changed since."""
    for root in _roots():
        found = _read(root / ".toolchains" / f"{key}.json", command)
        if found is not None:
            _known[key] = found
            return found
    return None


def _keep(key: str, compiler: Compiler, parts: Sequence[str]) -> None:
    """Keep the facts for later processes, until the command or one of `parts` changes on disk."""
    facts = compiler.as_dict() | {"parts": {part: stamp(part) for part in parts}}
    try:
        folder = location.prepare() / ".toolchains"
        write_atomic(folder / f"{key}.json", json.dumps(facts).encode())
    except (OSError, CacheUntrusted):
        return  # Only speed is lost: the next process asks the compiler again.


def _roots() -> tuple[Path, ...]:
    try:
        return location.locate().readable
    except CacheUntrusted:
        return ()


def _key(command: Sequence[str]) -> str:
    words = [stamp(path) for word in command if (path := program_of(word))]
    variables = environment.compiler_variables() | environment.loader_variables()
    name = os.path.basename(command[0])  # noqa: PTH119
    facts = [_QUESTIONS, name, list(command[1:]), words, variables]
    return sha256(json.dumps(facts).encode())[:32]


def _read(path: Path, command: Sequence[str]) -> Compiler | None:
    try:
        if not location.ours(path.stat()):
            return None
        facts = json.loads(read_regular(path, limit=1 << 20, follow=False))
        parts = facts.pop("parts")
        if any(stamp(part) != mark for part, mark in parts.items()):
            return None
        if set(facts) != set(Compiler.fields):
            return None
        facts["command"] = tuple(command)
        found = Compiler(**facts)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    texts = (found.kind, found.version, found.machine, found.identity, found.root)
    sound = isinstance(found.openmp, bool) and all(isinstance(text, str) for text in texts)
    return found if sound else None
