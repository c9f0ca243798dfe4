"""The first error in the words of each tool, and what tells of a passing trouble."""

from __future__ import annotations

import pytest

from accel.jit.tools.asking import is_passing
from accel.jit.tools.flags import check_user_flags
from accel.jit.tools.messages import first_error

COLLECT = "collect2: error: ld returned 1 exit status"
LD = "/usr/bin/ld: "
MESSAGES = [
    (f"{LD}b.o: in function `f()':\n>b.cpp:(.text+0x0): multiple definition of `f()'; a.o: first\n"
     f"{COLLECT}"),
    f"{LD}a.o: in function `h()':\n>c.cpp:(.text+0x5): undefined reference to `g()'\n{COLLECT}",
    (f">{LD}libnp.a(np.o): relocation R_X86_64_32S against `.data' can not be used when making a "
     f"shared object; recompile with -fPIC\n{LD}final link failed: bad value\n{COLLECT}"),
    (f"{LD}skipping incompatible /lib32/libq.so when searching for -lq\n"
     f">{LD}cannot find -lq: No such file or directory\n{COLLECT}"),
    (f"{LD}warning: a.o: missing .note.GNU-stack section implies executable stack\n"
     f"{LD}NOTE: This behaviour is deprecated\n>{LD}cannot find -lq\n{COLLECT}"),
    ">ld.gold: error: b.o: multiple definition of 'f()'\nld.gold: a.o: previous definition here",
    ">c.o:c.cpp:function h(): error: undefined reference to 'g()'\ncollect2: error: ld returned 1",
    ">ld.lld: error: undefined symbol: g()\n>>> referenced by c.cpp\nclang: error: linker command "
    "failed with exit code 1 (use -v to see invocation)",
    ">mold: error: duplicate symbol: a.o: b.o: f()",
    ">nvcc fatal   : Unsupported gpu architecture 'sm_20'",
    ">ptxas fatal   : Unresolved extern function '_Z1zv'",
    "ptxas info    : 0 bytes gmem\n>ptxas error   : Entry function uses too much shared data",
    ">nvlink error   : Undefined reference to '_Z1zv' in '/tmp/z.o'",
    ">nvcc error   : 'cicc' died due to signal 9 (Kill signal)",
    '>k.cu(1): error: identifier "nope" is undefined\n\n1 error detected in the compilation of "k"',
    "a.cu(2): warning #177-D: variable was declared but never referenced\n>k.cu(7): error: no",
    '>k.cu(9): catastrophic error: cannot open source file "x.h"',
    ">ninja: error: build.ninja:1: expected '=', got eof",
    "ninja: entering\n>ninja: fatal: posix_spawn: Resource temporarily unavailable",
    ">g++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
    ">a.cpp:3:1: internal compiler error: Segmentation fault\nPlease submit a full bug report",
    ">cc1plus: out of memory allocating 65536 bytes after a total of 1 bytes",
    ">g++: error: unrecognized command-line option '-fzork'",
    "/tmp/a.s: Assembler messages:\n>/tmp/a.s:4: Error: no such instruction: `zork'",
    ">/tmp/a.s: Fatal error: can't write 40 bytes to section .comment of a.o: 'No space left'",
    ">/usr/lib/cc1plus: error while loading shared libraries: libgmp.so.10: cannot open",
    ">sh: 1: no-such-compiler: not found",
    "a.cpp:1:2: Warnung: #warning error: gleich\n>a.cpp:2:9: Fehler: »x« wurde nicht deklariert",
    ">a.cpp:1:10: schwerwiegender Fehler: x.h: Datei oder Verzeichnis nicht gefunden",
    ">a.cpp:2:9: erreur: « x » n'a pas été déclaré",
    f"{LD}a.o: in Funktion »f«:\n>a.cpp:(.text+0x5): undefinierter Verweis auf »g()«\n"
    "collect2: Fehler: ld gab 1 als Ende-Status zurück",
    "\x1b[01m\x1b[Ka.cpp:1:2:\x1b[m\x1b[K \x1b[01;35m\x1b[Kwarning: \x1b[m\x1b[Kan error: ahead\n"
    ">\x1b[01m\x1b[Ka.cpp:2:1:\x1b[m\x1b[K \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[Kno\x1b[K",
    ">\x1b]8;;file:///a.cpp\x07a.cpp:2:1\x1b]8;;\x07: \x1b[0;1;31merror: \x1b[0mno",
    f"make: entering\n>{COLLECT}",
]  # fmt: skip


@pytest.mark.parametrize("output", MESSAGES)
def test_the_first_error_of_whichever_tool(output: str) -> None:
    (wanted,) = [
        line.removeprefix(">")
        for line in output.splitlines()
        if line.startswith(">") and not line.startswith(">>>")
    ]
    found = first_error("\n".join(line.removeprefix(">") for line in output.splitlines()))
    assert "\x1b" not in found
    for word in wanted.split():
        if "\x1b" not in word:
            assert word in found


@pytest.mark.parametrize(
    ("output", "passing"),
    [
        ("g++: fatal error: Killed signal terminated program cc1plus", True),
        ("cc1plus: out of memory allocating 65536 bytes", True),
        ("virtual memory exhausted: Cannot allocate memory", True),
        ("sh: 1: Cannot fork", True),
        ("nvcc error   : 'cicc' died due to signal 9 (Kill signal)", True),
        ("Fatal error: can't write x.o: No space left on device", True),
        ("ninja: fatal: pipe: Too many open files", True),
        ("a.cpp:3:1: internal compiler error: in fold, at x.cc:1", True),
        ("a.cpp:2:1: error: 'x' was not declared in this scope", False),
        ("ld: a.o: undefined reference to `g()'", False),
        ("g++: error: unrecognized command-line option '-fzork'", False),
    ],
)
def test_a_passing_trouble_is_told_apart(output: str, passing: bool) -> None:
    assert is_passing(output) is passing


@pytest.mark.parametrize(
    "flag",
    [
        *("-specs=/tmp/x", "-specs=/usr/lib/rpm/../../tmp/x", "-Wp,-MD,/tmp/x", "-Wp,-DA,-MF"),
        *("-m32", "-mx32", "--param"),
    ],
)
def test_flags_that_lead_elsewhere_stay_refused(flag: str) -> None:
    refusal = check_user_flags(["-O2", flag])
    assert refusal is not None
    assert flag in refusal.reason


def test_the_specs_of_fedora_are_accepted() -> None:
    hardened = "-specs=/usr/lib/rpm/redhat/redhat-hardened-cc1"
    assert check_user_flags([hardened, "-specs=/usr/lib/rpm/redhat/redhat-annobin-cc1"]) is None
