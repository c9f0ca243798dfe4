"""Every loop of a kernel becomes vector code: a scalar one is right, and many times slower."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest
from compilers import compilers

from accel.builders import cpu
from accel.builders.kinds import declared
from accel.jit import csrc_dir
from accel.jit.tools.compiler import Compiler
from accel.jit.tools.compilers import find_cxx
from accel.jit.tools.flags import compile_flags

KERNELS = {builder.artifact: builder for _, builder in declared(cpu.__name__)}
LOOP = re.compile(r"^ *for \(.*\b(i|j|k) < (n|kLanes|kCodes|accel::kSums|i \+ kPortion); ")


def source_of(name: str) -> Path:
    """Return the path of a source or header of the CPU's kernels."""
    (found,) = (csrc_dir() / "cpu").rglob(name)
    return found


def loops(name: str) -> set[str]:
    """Return ``file:line`` of the loops that each SIMD level gets."""
    text = source_of(name).read_text().partition("\n#else\n")[0]
    lines = enumerate(text.splitlines(), start=1)
    return {f"{name}:{number}" for number, line in lines if LOOP.match(line)}


# What each compiler is to be asked, and how it answers where a loop fills the widest registers.
ASK = {
    "gcc": ("-fopt-info-vec-optimized", r"optimized: (?:loop|basic).* 64 byte vectors"),
    "clang": ("-Rpass=loop-vectorize", r"remark: vectorized loop \(\D*(?:16|32|64),"),
}


@pytest.mark.parametrize("stem", KERNELS)
@pytest.mark.parametrize("program", compilers())
@pytest.mark.skipif(platform.machine() != "x86_64", reason="asks for vectors of x86-64")
def test_loops_use_the_widest_vectors(
    stem: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", program)
    compiler = find_cxx()
    assert isinstance(compiler, Compiler)
    recipe = KERNELS[stem]().recipe()
    flags = compile_flags(recipe, compiler)
    question, answer = ASK[compiler.kind]
    source = source_of(f"{stem}.cpp")
    folders = [f"-I{folder}" for folder in recipe.include_dirs]
    command = [program, *flags, *folders, question, "-c", str(source),
               "-o", "/dev/null"]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    lines = re.findall(rf"([\w-]+\.(?:cpp|h)):(\d+):\d+: {answer}", told)
    found = {f"{file}:{line}" for file, line in lines}
    wanted = loops(f"{stem}.cpp") | loops("convert-inl.h")
    # What is left over after whole vectors, and sixteen lanes written out, are no loops of theirs.
    scalar = {place for place in wanted - found if not _is_rest(place)}
    assert not scalar, told


def _is_rest(place: str) -> bool:
    name, _, number = place.partition(":")
    line = source_of(name).read_text().splitlines()[int(number) - 1]
    return "for (;" in line or "kLanes" in line or "i + k < n" in line
