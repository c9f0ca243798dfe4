"""The compilers and ninja of this machine, as frozen facts that are remembered across processes."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import environment
from accel.errors import CacheUntrusted
from accel.jit.disk import location
from accel.jit.disk.lock import gate
from accel.jit.disk.safe_io import read_regular, sha256, write_atomic
from accel.probe import Rejected
from accel.value import Value

if TYPE_CHECKING:
    from accel.jit.tools.identify import Identified

_log = logging.getLogger(__name__)
_PROGRAMS = {"gcc": "g++", "clang": "clang++", "nvcc": "nvcc"}
# Another number makes every process ask anew.
_QUESTIONS = 2
_known: dict[str, Compiler | Rejected] = {}
_told: set[str] = set()


class Compiler(Value):
    """A compiler that answered.

    Attributes:
        kind: ``"gcc"``, ``"clang"`` or ``"nvcc"``.
        command: how to call it: an absolute path, then the arguments that ``CXX`` gave.
        version: such as ``"12.2.0"``.
        machine: what it compiles for, such as ``"x86_64"``; for nvcc ``"8.0 9.0 ..."``.
        openmp: whether it finds ``omp.h``; a clang without libomp does not.
        identity: hex digest of its predefined macros and its own bytes; the same wherever it lies.
        root: for nvcc, the folder of its toolkit.
    """

    kind: str
    command: tuple[str, ...]
    version: str
    machine: str
    identity: str
    openmp: bool = True
    root: str = ""

    @property
    def label(self) -> str:
        """Name and version for people: ``"g++ 12.2.0"``."""
        return f"{_PROGRAMS.get(self.kind, self.kind)} {self.version}"


def which(program: str) -> str | None:
    """Return the absolute path of `program` as the shell would find it, or ``None``."""
    folders = [""] if "/" in program else environment.search_path().split(os.pathsep)
    for folder in folders:
        path = os.path.abspath(os.path.join(folder, program))  # noqa: PTH100, PTH118 - keep links
        if os.access(path, os.X_OK) and os.path.isfile(path):  # noqa: PTH113
            return path
    return None


class Unanswered(Rejected):
    """A tool was asked and gave no answer: the next process asks again."""


def find_cxx() -> Compiler | Rejected:
    """Return the C++ compiler: ``CXX`` where set, else the first of g++, clang++, c++ that works.

    Runs a compiler's preprocessor once a process at most, and not at all where the answer of the
    very same file is remembered.
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
                _tell_once(f"{silent[0]}. Using {found.command[0]} in this process instead.")
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
    found = _facts((program, *words[1:]), _identify_cxx)
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


def machine_here() -> str:
    """Return the kind of processor that this process's code is for, as compilers are told apart."""
    machine = os.uname().machine
    if sys.maxsize < 1 << 32:
        return {"x86_64": "i386", "aarch64": "arm"}.get(machine, machine)
    for start in ("ppc64", "riscv", "loongarch"):
        if machine.startswith(start):
            return start
    return machine


def _tell_once(text: str) -> None:
    if text not in _told:
        _told.add(text)
        _log.warning("%s", text)


def processor() -> str:
    """Return a digest of what this processor can do, for flags that ask for ``native``.

    Raises `OSError` where the system does not tell.
    """
    text = read_regular(Path("/proc/cpuinfo")).decode("utf-8", "replace")
    wanted = r"^(?:model name|flags|Features|CPU part)\s*: .*$"
    return sha256("\n".join(sorted(set(re.findall(wanted, text, re.MULTILINE)))).encode())[:16]


def find_ninja() -> str | None:
    """Return the path of ninja: beside Python, in its wheel, or on PATH."""
    beside = Path(sys.executable or "/").parent / "ninja"
    if os.access(beside, os.X_OK):
        return str(beside)
    return which("ninja") or _ninja_of_wheel()


def _ninja_of_wheel() -> str | None:
    from importlib.util import find_spec

    spec = find_spec("ninja")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / "bin" / "ninja"
        if os.access(path, os.X_OK):
            return str(path)
    return None


def _facts(
    command: tuple[str, ...], identify: Callable[[tuple[str, ...]], Identified | Rejected]
) -> Compiler | Rejected:
    """Return what is known of a tool, asking it where nothing is.

    Two keys. Of a plain compiler its own file decides who answers: that is kept for other
    processes. Of a script or a launcher the whole environment may, and files that nobody knows
    of: that, and what failed, is kept for this process.
    """
    key = _key(command)
    found: Compiler | Rejected | None = _known.get(key) or _kept(command, key)
    if found is not None:
        return found
    wide = sha256(
        f"{key} {_here()} {environment.for_compiler()}".encode("utf-8", "surrogateescape")
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


def _here() -> str:
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


def stamp(path: str) -> list[Any]:
    """Return real path, size and time of a file; what a changed compiler changes."""
    real = os.path.realpath(path)
    try:
        facts = Path(real).stat()
    except OSError:
        return [real]
    return [real, facts.st_size, facts.st_mtime_ns]


def _key(command: Sequence[str]) -> str:
    words = [stamp(path) for word in command if (path := program_of(word))]
    variables = environment.compiler_variables() | environment.loader_variables()
    name = os.path.basename(command[0])  # noqa: PTH119
    facts = [_QUESTIONS, name, list(command[1:]), words, variables]
    return sha256(json.dumps(facts).encode())[:32]


def program_of(word: str) -> str | None:
    """Return the path of the program that a command's word names, ``None`` where it names none."""
    return None if not word or word.startswith("-") else which(word)


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


def find_nvcc() -> Compiler | Rejected:
    """Return nvcc; runs it as seldom as `find_cxx` does a compiler."""
    from accel.jit.tools import nvcc

    place = nvcc.locate()
    if isinstance(place, Rejected):
        return place
    return _facts((str(place.path),), lambda _: nvcc.identify(place))
