"""What is read from and written for other programs: flags, ninja, depfiles, errors, versions."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.jit.cache.manifest import depfile_paths, needed_glibc
from accel.jit.tools.flags import check_user_flags
from accel.jit.tools.messages import first_error
from accel.jit.tools.ninja import Command, ninja_file
from accel.jit.tools.torch_extension import TorchFacts

HARMFUL = [
    "-ffast-math",
    "-Ofast",
    "-march=native",
    "-funsafe-math-optimizations",
    "-mtune=native",
    "-mcpu=native",
    "-ffp-contract=fast",
    "-ffinite-math-only",
]
ELSEWHERE = [
    "-o/tmp/x",
    "-o",
    "@/tmp/x",
    "-wrapper",
    "-fplugin=/tmp/x.so",
    "-specs=/tmp/x",
    "-B/tmp",
    "-save-temps",
    "-MF/tmp/x",
    "-dumpdir",
    "-fdump-tree-all=/tmp/x",
    "evil.cpp",
    "-xc",
    "-c",
    "-Wl,-o,/tmp/x",
    "-Wa,-x",
    "-Wp,-MD,/tmp/x",
    "-L/tmp",
    "-levil",
    "",
    "-",
    "--sysroot=/tmp",
    "-fprofile-generate=/tmp/x",
    "-Xlinker",
    "-T",
    "-v",
    "-D",
]
USUAL = (
    "-march=nocona -mtune=haswell -ftree-vectorize -fPIC -fstack-protector-strong -fno-plt -O2 "
    "-ffunction-sections -pipe -isystem /opt/conda/include -fdebug-prefix-map=/a=/b -g -Wall "
    "-Wformat -Werror=format-security -Wdate-time -D_FORTIFY_SOURCE=2 -std=c++17 -O -O3 -Og -ggdb3 "
    "-fmessage-length=0 -DNAME='a b' -I/usr/include/x -D X=1 -include y.h -w -Wno-unused -g0 -m64"
)


@pytest.mark.parametrize("flag", HARMFUL + ELSEWHERE)
def test_a_flag_that_harms_or_leads_elsewhere_is_refused(flag: str) -> None:
    refusal = check_user_flags(["-O2", flag])
    assert refusal is not None
    assert flag in refusal.reason


def test_the_flags_of_distributions_are_accepted() -> None:
    assert check_user_flags(shlex.split(USUAL)) is None


text = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=50, deadline=None)
@given(words=st.lists(text, min_size=1, max_size=4))
def test_ninja_and_shell_hand_every_word_on(words: list[str]) -> None:
    commands = (
        Command("0.o", ("printf", "%s\\0", *words), Path("x.cpp")),
        Command("x.so", ("true",), None),
    )
    (line,) = [
        line
        for line in ninja_file(commands).split("\n")
        if line.startswith("  step") and "%s" in line
    ]
    # As ninja reads it: `$$` is a dollar, and nothing else here begins with one.
    script = line.removeprefix("  step = ").replace("$$", "\0").replace("\0", "$")
    script = script.replace(": > 0.o.start; ", "").partition(" > 0.o.log")[0]
    shown = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True).stdout
    assert shown.decode() == "".join(f"{word}\0" for word in words)


@pytest.mark.parametrize(
    ("rule", "paths"),
    [
        ("0.o: a.cpp b.h\n", ["a.cpp", "b.h"]),
        ("0.o: a.cpp \\\n b.h \\\n  c.h\n", ["a.cpp", "b.h", "c.h"]),
        ("0.o: a\\ b.h c\\\tb.h\n", ["a b.h", "c\tb.h"]),
        ("0.o: a\\\\\\ b.h\n", ["a\\ b.h"]),
        (
            "0.o: back\\slash.h \\#hash.h dollar$$.h co:lon.h\n",
            ["back\\slash.h", "#hash.h", "dollar$.h", "co:lon.h"],
        ),
        ("", []),
        ("nonsense", []),
    ],
)
def test_depfiles(rule: str, paths: list[str]) -> None:
    assert depfile_paths(rule) == paths


@pytest.mark.parametrize(
    ("output", "first"),
    [
        (
            "In file included from a.cpp:1:\nb.h:3:1: error: no\nc.h:1: error: yes\n",
            "b.h:3:1: error: no",
        ),
        (
            "a.cpp:1:10: fatal error: x.h: No such file\n",
            "a.cpp:1:10: fatal error: x.h: No such file",
        ),
        ("a.cpp:1:1: warning: error ahead\na.cpp:2:2: error: it\n", "a.cpp:2:2: error: it"),
        ("a.cu(7): error: no\n", "a.cu(7): error: no"),
        (
            "nvcc fatal   : Unsupported gpu architecture\n",
            "nvcc fatal   : Unsupported gpu architecture",
        ),
        (
            "/usr/bin/ld: 0.o: undefined reference to `x'\ncollect2: error: ld\n",
            "/usr/bin/ld: 0.o: undefined reference to `x'",
        ),
        ("\n\n  something odd  \nmore\n", "something odd"),
        ("", ""),
    ],
)
def test_the_first_error_is_found(output: str, first: str) -> None:
    assert first_error(output) == first


def test_the_newest_glibc_counts() -> None:
    assert needed_glibc(b"\0GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.17\0GLIBCXX_3.4\0") == "2.34"
    assert needed_glibc(b"nothing") == ""


@pytest.mark.parametrize(
    ("version", "standard"),
    [("2.6.0", "c++17"), ("2.11.1+cu126", "c++17"), ("2.12.0", "c++20"), ("2.13.0+cpu", "c++20")],
)
def test_the_standard_that_torch_needs(version: str, standard: str) -> None:
    assert TorchFacts(Path(), version, "", "1").standard == standard
