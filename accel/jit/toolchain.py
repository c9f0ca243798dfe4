"""The compilers and ninja of this machine, as frozen facts that are remembered across processes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import environment
from accel.errors import CacheUntrusted
from accel.jit import location
from accel.jit.files import read_regular, sha256, write_atomic
from accel.probe import Rejected
from accel.value import Value

if TYPE_CHECKING:
    from accel.jit.process import ToolResult

_PROGRAMS = {"gcc": "g++", "clang": "clang++", "nvcc": "nvcc"}
_WHO = ("-dM", "-E", "-x", "c++", "/dev/null")
_WHERE_OPENMP = ("-v", "-fopenmp", "-E", "-x", "c++", "-include", "omp.h", "/dev/null")
_WHICH_PROGRAM = ("-print-prog-name=cc1plus",)
_known: dict[str, Compiler] = {}


class Compiler(Value):
    """A compiler that answered.

    Attributes:
        kind: ``"gcc"``, ``"clang"`` or ``"nvcc"``.
        command: how to call it: an absolute path, then the arguments that ``CXX`` gave.
        version: such as ``"12.2.0"``.
        machine: what it compiles for, such as ``"x86_64"``; for nvcc ``"8.0 9.0 ..."``.
        openmp: whether it finds ``omp.h``; a clang without libomp does not.
        identity: hex digest of its predefined macros and its own bytes; the same wherever it lies.
    """

    kind: str
    command: tuple[str, ...]
    version: str
    machine: str
    identity: str
    openmp: bool = True

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


def find_cxx() -> Compiler | Rejected:
    """Return the C++ compiler: ``CXX`` where set, else the first of g++, clang++, c++ that works.

    Runs a compiler's preprocessor only where its path, size or time is not remembered.
    """
    try:
        asked = environment.cxx()
    except ValueError as error:
        return Rejected(f"CXX cannot be split into words: {error}.", "Correct or unset CXX.")
    if asked:
        found = _facts_of(asked)
        if isinstance(found, Rejected):
            return Rejected(f"CXX={' '.join(asked)}: {found.reason}", "Correct or unset CXX.")
        return found
    refusals = []
    for program in ("g++", "clang++", "c++"):
        found = _facts_of((program,))
        if isinstance(found, Compiler):
            return found
        refusals.append(f"{program} {found.reason}")
    return Rejected(
        f"no C++ compiler works here: {'; '.join(refusals)}.",
        "Install g++ or clang++, or set CXX.",
    )


def processor() -> str:
    """Return a digest of what this processor can do, for flags that ask for ``native``."""
    try:
        text = read_regular(Path("/proc/cpuinfo")).decode("utf-8", "replace")
    except OSError:
        return "unknown"
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


def remembered(command: Sequence[str]) -> Compiler | None:
    """Return the facts about `command` (its first word an absolute path) if nothing changed."""
    key = _key(command)
    if key not in _known:
        for root in _roots():
            found = _read(root / ".toolchains" / f"{key}.json", command)
            if found is not None:
                _known[key] = found
                break
    return _known.get(key)


def remember(compiler: Compiler, parts: Sequence[str] = ()) -> None:
    """Keep the facts for later processes, until the command or one of `parts` changes on disk."""
    key = _key(compiler.command)
    _known[key] = compiler
    facts = compiler.as_dict() | {"parts": {part: _stamp(part) for part in parts}}
    try:
        folder = location.prepare() / ".toolchains"
        folder.mkdir(mode=0o700, exist_ok=True)
        write_atomic(folder / f"{key}.json", json.dumps(facts).encode())
    except (OSError, CacheUntrusted):
        return  # Only speed is lost: the next process asks the compiler again.


def _roots() -> tuple[Path, ...]:
    try:
        return location.locate().readable
    except CacheUntrusted:
        return ()


def _stamp(path: str) -> list[Any]:
    """Return real path, size and time of a file; what a changed compiler changes."""
    real = os.path.realpath(path)
    try:
        facts = Path(real).stat()
    except OSError:
        return [real]
    return [real, facts.st_size, facts.st_mtime_ns]


def _key(command: Sequence[str]) -> str:
    words = [_stamp(path) for word in command if (path := _as_file(word))]
    variables = environment.compiler_variables()
    name = os.path.basename(command[0])  # noqa: PTH119
    return sha256(json.dumps([name, list(command[1:]), words, variables]).encode())[:32]


def _as_file(word: str) -> str | None:
    return None if word.startswith("-") else which(word)


def _read(path: Path, command: Sequence[str]) -> Compiler | None:
    try:
        if not location.ours(path.stat()):
            return None
        facts = json.loads(read_regular(path, limit=1 << 20, follow=False))
        parts = facts.pop("parts")
        if any(_stamp(part) != stamp for part, stamp in parts.items()):
            return None
        if set(facts) != set(Compiler.fields):
            return None
        facts["command"] = tuple(command)
        found = Compiler(**facts)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    texts = (found.kind, found.version, found.machine, found.identity)
    sound = isinstance(found.openmp, bool) and all(isinstance(text, str) for text in texts)
    return found if sound else None


def _facts_of(words: tuple[str, ...]) -> Compiler | Rejected:
    program = which(words[0])
    if program is None:
        return Rejected("was not found")
    command = (program, *words[1:])
    return remembered(command) or _ask(command)


def _ask(command: tuple[str, ...]) -> Compiler | Rejected:
    """Run the preprocessor on nothing: its predefined macros say who it is and what it makes."""
    from concurrent.futures import ThreadPoolExecutor

    questions = (_WHO, _WHERE_OPENMP, _WHICH_PROGRAM)
    # At a time: a first build waits for the answers, and asking is all that they cost.
    with ThreadPoolExecutor(len(questions)) as pool:
        answer, openmp, program = pool.map(lambda words: _run((*command, *words)), questions)
    if answer.trouble:
        return Rejected(answer.trouble)
    macros = dict(re.findall(r"^#define (\w+) ?(.*)$", answer.output, re.MULTILINE))
    if "__GNUC__" not in macros or "__cplusplus" not in macros:
        return Rejected("does not answer like g++ or clang++")
    kind = "clang" if "__clang__" in macros else "gcc"
    stem = "__clang_{}__" if kind == "clang" else "__GNUC_{}__"
    major = macros.get("__clang_major__" if kind == "clang" else "__GNUC__", "?")
    minor = macros.get(stem.format("minor" if kind == "clang" else "MINOR"), "0")
    patch = macros.get(stem.format("patchlevel" if kind == "clang" else "PATCHLEVEL"), "0")
    told = sha256(repr(sorted(macros.items())).encode())
    without_openmp = _searched_for_openmp(openmp)
    compiler = Compiler(
        kind,
        command,
        f"{major}.{minor}.{patch}",
        next(
            (name.strip("_") for name in ("__x86_64__", "__aarch64__") if name in macros), "other"
        ),
        sha256(f"{told} {list(_contents(command))}".encode())[:32],
        not without_openmp,
    )
    remember(compiler, (*_parts_of(program), *without_openmp))
    return compiler


def _searched_for_openmp(answer: ToolResult) -> tuple[str, ...]:
    """Return the folders in which no ``omp.h`` was found, where installing it may change that."""
    if not answer.trouble:
        return ()
    return tuple(re.findall(r"^ (/.*)$", answer.output, re.MULTILINE)) or ("/usr/include",)


def _parts_of(answer: ToolResult) -> tuple[str, ...]:
    """Return the compiler proper behind the driver, which a ccache or a script hides."""
    path = answer.output.strip()
    return (path,) if not answer.trouble and path.startswith("/") and "\n" not in path else ()


def _contents(command: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command with each program replaced by the hash of its bytes."""
    for word in command:
        path = _as_file(word)
        yield word if path is None else sha256(read_regular(Path(path)))


def _run(command: Sequence[str]) -> ToolResult:
    import tempfile

    from accel.jit.process import run_tool

    return run_tool(command, env=environment.for_compiler(Path(tempfile.gettempdir())))


def find_nvcc() -> Compiler | Rejected:
    """Return nvcc; runs it only where its path, size or time is not remembered."""
    from accel.jit import nvcc

    place = nvcc.locate()
    if isinstance(place, Rejected):
        return place
    command = (str(place.path),)
    known = remembered(command)
    if known is not None:
        return known
    found = nvcc.find()
    if isinstance(found, Rejected):
        return found
    told = sha256(f"nvcc {found.release} {list(_contents(command))}".encode())[:32]
    compiler = Compiler("nvcc", command, found.release, " ".join(found.archs), told)
    remember(compiler)
    return compiler
