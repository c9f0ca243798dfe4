"""Identification of a C++ compiler: one run of its preprocessor gives all facts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from accel.jit.disk.safe_io import read_regular, sha256
from accel.jit.tools.asking import Failed, Refused, ask
from accel.jit.tools.compiler import Compiler, Identified, Unanswered
from accel.jit.tools.programs import program_of
from accel.probe import Rejected

# The macros identify it and its target, -v names the program that answers and its folders. A
# missing omp.h has a macro too, since a compiler that is killed prints neither.
_WORDS = ("-v", "-dM", "-E", "-x", "c++", "-")
_QUESTION = """#ifdef __has_include
#if __has_include(<omp.h>)
#define ACCEL_OMP_H 1
#else
#define ACCEL_OMP_H 0
#endif
#endif
"""
_MACHINES = {
    "__x86_64__": "x86_64",
    "__i386__": "i386",
    "__aarch64__": "aarch64",
    "__arm__": "arm",
    "__powerpc64__": "ppc64",
    "__riscv": "riscv",
    "__s390x__": "s390x",
    "__loongarch__": "loongarch",
}
_WHERE = re.compile(r" -f(?:debug|coverage)-compilation-dir[= ]\S+")


def identify(command: tuple[str, ...]) -> Identified | Rejected:
    """Run the preprocessor on the question and parse the answer; hashes the compiler's bytes."""
    answer = ask((*command, *_WORDS), _QUESTION)
    if isinstance(answer, Failed):
        return Unanswered(answer.reason)
    if isinstance(answer, Refused):
        return Rejected(answer.reason)
    try:
        return _read(command, answer.text)
    except OSError as error:
        return Unanswered(f"cannot be read: {error}")


def _read(command: tuple[str, ...], text: str) -> Identified | Rejected:
    macros = dict(re.findall(r"^#define (\w+) ?(.*)$", text, re.MULTILINE))
    if "__GNUC__" not in macros or "__cplusplus" not in macros:
        return Rejected("does not answer like g++ or clang++")
    openmp = macros.pop("ACCEL_OMP_H", None)
    if openmp is None:
        return Rejected("is too old: C++17 is needed")
    kind = "clang" if "__clang__" in macros else "gcc"
    line, driver, proper = _who_answers(kind, text)
    plain = _is_plain(kind, command, driver)
    facts = f"{sha256(repr(sorted(macros.items())).encode())} {list(_contents(command))}"
    if not plain:
        facts += f" {list(_contents([driver]))} {_build(text)} {_WHERE.sub('', line)}"
    identity = sha256(facts.encode())[:32]
    version, machine = _version(kind, macros), _machine(macros)
    compiler = Compiler(kind, command, version, machine, identity, openmp == "1")
    named = re.findall(r"^(?:Configuration file:|Reading specs from) (/.*)$", text, re.MULTILINE)
    searched = () if compiler.openmp else _searched(text)
    parts = (*([proper] if proper.startswith("/") else []), *named, *searched)
    return Identified(compiler, parts, plain)


def _who_answers(kind: str, text: str) -> tuple[str, str, str]:
    """Return the compiler proper's command line, and the paths of the driver and of it."""
    if kind == "clang":
        found = re.search(r'^ "?(/[^"\n]*?)"? -cc1 .*$', text, re.MULTILINE)
        return (found[0], found[1], found[1]) if found else ("", "", "")
    found = re.search(r"^ (\S.*?cc1plus(?:\.exe)?) -E .*$", text, re.MULTILINE)
    driver = re.search(r"^COLLECT_GCC=(.*)$", text, re.MULTILINE)
    line, proper = (found[0], found[1]) if found else ("", "")
    return line, driver[1] if driver else "", proper


def _build(text: str) -> list[str]:
    """Return the facts that distinguish builds of one release, and a launcher's flags."""
    return re.findall(r"^(?:gcc version|Configured with|.*clang version) .*$", text, re.MULTILINE)


def _is_plain(kind: str, command: Sequence[str], driver: str) -> bool:
    if not driver or not all(word.startswith("-") for word in command[1:]):
        return False
    if os.path.realpath(driver) != os.path.realpath(command[0]):
        return False
    # GCC repeats the name that it was called by, which may be a launcher's.
    data = read_regular(command[0])
    return data.startswith(b"\x7fELF") and (kind == "clang" or b"COLLECT_GCC" in data)


def _version(kind: str, macros: dict[str, str]) -> str:
    if kind == "clang":
        names = ("__clang_major__", "__clang_minor__", "__clang_patchlevel__")
    else:
        names = ("__GNUC__", "__GNUC_MINOR__", "__GNUC_PATCHLEVEL__")
    return ".".join(macros.get(name, "0") for name in names)


def _machine(macros: dict[str, str]) -> str:
    """Return the machine that it compiles for, by its name in uname(2) if it has one."""
    machine = next((name for macro, name in _MACHINES.items() if macro in macros), "other")
    if machine == "x86_64" and "__ILP32__" in macros:
        machine = "x32"
    return machine if "__linux__" in macros else f"{machine} without Linux"


def _searched(text: str) -> tuple[str, ...]:
    """Return the folders in which no ``omp.h`` was found: installing it changes one of them."""
    _, _, after = text.partition("search starts here:")
    folders, _, _ = after.partition("End of search list.")
    return tuple(re.findall(r"^ (/.*)$", folders, re.MULTILINE)) or ("/usr/include",)


def _contents(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command with each program replaced by the hash of its bytes."""
    for word in words:
        path = program_of(word)
        yield word if path is None else sha256(read_regular(Path(path)))
