"""`Compiler`: a compiler of this machine, as frozen facts."""

from __future__ import annotations

from accel.probe import Rejected
from accel.record import Record

_PROGRAMS = {"gcc": "g++", "clang": "clang++", "nvcc": "nvcc"}


class Compiler(Record):
    """A compiler that answered.

    Attributes:
        kind: ``"gcc"``, ``"clang"`` or ``"nvcc"``.
        command: how to call it: an absolute path, then the arguments that ``CXX`` gave.
        version: such as ``"12.2.0"``.
        machine: its target, such as ``"x86_64"``; for nvcc ``"8.0 9.0 ..."``.
        openmp: whether it finds ``omp.h``; a clang without libomp does not.
        identity: hex digest of its predefined macros and its own bytes, independent of its path.
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


class Identified(Record):
    """A compiler that answered, and the conditions for reusing the answer.

    Attributes:
        compiler: the compiler that answered.
        parts: files and folders whose change may change the answer.
        plain: whether the called file itself answered. If it is a script or a launcher, the
            next answer may depend on facts that are not known here.
    """

    compiler: Compiler
    parts: tuple[str, ...]
    plain: bool


class Unanswered(Rejected):
    """A tool that gave no answer: the next process asks again."""
