"""Every loop of a kernel becomes vector code: a scalar one is right, and many times slower."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess

import pytest

from accel.builders import cpu
from accel.jit import csrc_dir

KERNELS = {
    "adam": cpu.FusedAdamBuilder,
    "lion": cpu.FusedLionBuilder,
    "adagrad": cpu.CPUAdagradBuilder,
    "lamb": cpu.FusedLambBuilder,
    "adam8bit": cpu.Adam8bitBuilder,
}
LOOP = re.compile(r"^ *for \(.*\b(i|j|k) < (n|kLanes|kCodes|i \+ kPortion); ")


def loops(name: str) -> set[str]:
    """Return ``file:line`` of the loops that each SIMD level gets."""
    text = (csrc_dir() / "cpu" / name).read_text().partition("\n#else\n")[0]
    lines = enumerate(text.splitlines(), start=1)
    return {f"{name}:{number}" for number, line in lines if LOOP.match(line)}


@pytest.mark.parametrize("stem", KERNELS)
@pytest.mark.skipif(
    shutil.which("g++") is None or platform.machine() != "x86_64",
    reason="asks g++ on x86-64 what it did",
)
def test_loops_use_the_widest_vectors(stem: str) -> None:
    builder = KERNELS[stem]()
    flags = ["-std=c++17", "-O3", "-fno-math-errno", "-ffp-contract=off", "-fopenmp"]
    include = f"-I{csrc_dir() / 'include'}"
    command = ["g++", *flags, *builder.cxx_args(), include, "-fopt-info-vec-optimized", "-c",
               str(csrc_dir() / f"cpu/{stem}.cpp"), "-o", "/dev/null"]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    pattern = r"([\w-]+\.(?:cpp|h)):(\d+):\d+: optimized: (?:loop|basic).* 64 byte vectors"
    found = {f"{file}:{line}" for file, line in re.findall(pattern, told)}
    wanted = loops(f"{stem}.cpp") | loops("convert-inl.h")
    # What is left over after whole vectors, and sixteen lanes written out, are no loops of theirs.
    scalar = {place for place in wanted - found if not _is_rest(place)}
    assert not scalar, told


def _is_rest(place: str) -> bool:
    name, _, number = place.partition(":")
    line = (csrc_dir() / "cpu" / name).read_text().splitlines()[int(number) - 1]
    return "for (;" in line or "kLanes" in line or "i + k < n" in line
