"""The C++ and CUDA compilers of this machine, for this process."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

from accel import environment
from accel.jit.disk.safe_io import read_regular, sha256
from accel.jit.tools.compiler import Compiler, Identified, Unanswered
from accel.jit.tools.known import facts_of
from accel.jit.tools.programs import which
from accel.probe import Rejected

_log = logging.getLogger(__name__)
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
    found = facts_of((program, *words[1:]), _identify_cxx)
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
    return facts_of((str(place.path),), lambda _: nvcc.identify(place))


def machine_here() -> str:
    """Return the kind of processor of this process's code, in the words of `Compiler.machine`."""
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
