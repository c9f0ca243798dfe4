"""Distributions' flags build and load; a failure is told by its first error and remembered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from engine_tools import REPOSITORY, Workshop

HARDENED = "-fstack-clash-protection -fcf-protection -fno-omit-frame-pointer"
DISTRIBUTIONS = {
    "Debian": "-g -O2 -ffile-prefix-map=/b=. -fstack-protector-strong -Wformat "
    "-Werror=format-security -Wdate-time -D_FORTIFY_SOURCE=2",
    "Debian, hardened": "-g -O2 -fPIE -fstack-protector-strong -Wformat -Werror=format-security",
    "Ubuntu": f"-g -O2 -flto=auto -ffat-lto-objects -fstack-protector-strong {HARDENED} "
    "-D_FORTIFY_SOURCE=3",
    "Fedora": "-O2 -flto=auto -ffat-lto-objects -fexceptions -g -grecord-gcc-switches -pipe -Wall "
    "-Wp,-U_FORTIFY_SOURCE,-D_FORTIFY_SOURCE=3 -Wp,-D_GLIBCXX_ASSERTIONS "
    f"-fstack-protector-strong -m64 -fasynchronous-unwind-tables {HARDENED}",
    "Arch": "-O2 -pipe -fno-plt -fexceptions -Wp,-D_FORTIFY_SOURCE=3 -Wformat "
    f"-Werror=format-security {HARDENED} -Wp,-D_GLIBCXX_ASSERTIONS -flto=auto",
    "Gentoo": "-O2 -pipe -fipa-pta -fno-semantic-interposition -flto=2 -fuse-linker-plugin",
    "Nix": "-O2 -fPIC -fstack-protector-strong --param ssp-buffer-size=4 -fno-strict-overflow "
    "-Wformat -Wformat-security -D_FORTIFY_SOURCE=3",
    "conda-forge": "-fvisibility-inlines-hidden -fmessage-length=0 -ftree-vectorize -fPIC "
    "-fstack-protector-strong -fno-plt -O2 -ffunction-sections -pipe -isystem /opt/conda/include",
    "openSUSE": "-O2 -Wall -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong "
    "-funwind-tables -fasynchronous-unwind-tables -fstack-clash-protection -flto=auto -g",
    "position-dependent": "-fno-pic -frtti -fnon-call-exceptions -fpie",
}
# Asks for what distributions' flags bring in: a frame to guard and unwind, a copy to check.
SENSITIVE = """#include <string.h>
extern "C" int puts(const char *);
static int table[4] = {7, 8, 9, 10};
struct Guard { char text[64]; ~Guard() { if (text[0] == 'x') puts(text); } };
struct Base { virtual int number(int i) const { return table[i]; } };
extern "C" __attribute__((visibility("default"))) int copy(void *p, unsigned long n) {
  Guard guard;
  memset(guard.text, 0, sizeof guard.text);
  if (p) memcpy(guard.text, p, n);
  Base base;
  const Base *volatile any = &base;
  return any->number(guard.text[1]);
}
extern "C" __attribute__((visibility("default"))) int value() { return copy(nullptr, 0); }
"""


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_distributions_flags_build_and_load(workshop: Workshop, distribution: str) -> None:
    workshop.source.write_text(SENSITIVE)
    flags = {"CXXFLAGS": DISTRIBUTIONS[distribution]}
    runtime = ["-fno-exceptions", "-fno-rtti"]
    told = workshop.load(env=flags, more={"cxx_runtime": False, "compile_flags": runtime})
    assert told.get("rung") == "jit", told


def test_flags_build_what_needs_a_runtime(workshop: Workshop) -> None:
    workshop.source.write_text(SENSITIVE)
    assert workshop.load(env={"CXXFLAGS": DISTRIBUTIONS["Fedora"]})["rung"] == "jit"


@pytest.mark.parametrize("distribution", ["Arch", "Debian, hardened"])
def test_a_kernel_builds_with_a_distributions_flags(workshop: Workshop, distribution: str) -> None:
    script = (
        "from accel import jit; from accel.builders import cpu;"
        "print(jit.acquire(cpu.FusedLambBuilder().recipe()).rung)"
    )
    flags = {"CXXFLAGS": DISTRIBUTIONS[distribution], "CXX": "g++"}
    done = run(workshop, "-c", script, **flags)
    assert done.stdout == "jit\n", done.stderr


def run(workshop: Workshop, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **workshop.environment, **env},
        cwd=REPOSITORY,
        check=False,
    )


def fail(workshop: Workshop) -> None:
    workshop.source.write_text('#include "value.h"\nint value() { return missing; }\n')


def test_a_failure_that_recurs_is_remembered(workshop: Workshop) -> None:
    fail(workshop)
    first, second = workshop.load(), workshop.load()
    assert (first["error"], second["error"]) == ("BuildFailed", "BuildFailed")
    assert second["first_error"] == first["first_error"]
    assert "Not tried again" in second["message"]
    assert first["log_path"] in second["message"]
    assert workshop.compiles() == 1
    workshop.set_value(8)
    workshop.load()
    assert workshop.compiles() == 2, "its sources changed"


def test_a_failure_that_recurs_is_explained(workshop: Workshop) -> None:
    broken = workshop.folder / "ops.py"
    broken.write_text(
        "from accel.builders.base import OpBuilder\n"
        "class BrokenBuilder(OpBuilder):\n"
        "    NAME = 'broken'\n"
        f"    def sources(self): return ['{workshop.source}']\n"
        f"    def include_paths(self): return ['{workshop.include}']\n"
    )
    fail(workshop)
    ask = (
        "import ops, json; b = ops.BrokenBuilder(); before = bool(b.compatibility())\n"
        "try: b.load()\n"
        "except Exception as e: pass\n"
        "rungs = {rung: str(probe) for rung, probe in b.rungs()}\n"
        "print(json.dumps([before, bool(b.compatibility()), rungs['jit']]))"
    )
    paths = os.pathsep.join([str(workshop.folder), str(REPOSITORY)])
    before, after, reason = json.loads(run(workshop, "-c", ask, PYTHONPATH=paths).stdout)
    assert (before, after) == (True, False)
    assert "missing" in reason


def test_what_may_have_been_installed_since_is_tried_again(workshop: Workshop) -> None:
    """A missing header or library changes no digest when it comes."""
    library = {"link_flags": [f"-L{workshop.folder}", "-llate"]}
    assert "-llate" in workshop.load(more=library)["message"]
    source = workshop.folder / "late.c"
    source.write_text("int late;\n")
    target = str(workshop.folder / "liblate.so")
    subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", target], check=True)
    assert "Not tried again" not in str(workshop.load(more=library))


def archive(folder: Path, *flags: str) -> Path:
    """A static library, as a user's build makes it."""
    source = folder / "part.c"
    source.write_text("static int t[4] = {1, 2}; int part(int i) { return t[i]; }\n")
    part, library = folder / "part.o", folder / "libpart.a"
    subprocess.run(["gcc", "-O2", *flags, "-c", str(source), "-o", str(part)], check=True)
    library.unlink(missing_ok=True)
    subprocess.run(["ar", "rcs", str(library), str(part)], check=True)
    return library


USES_PART = """extern "C" int part(int);
extern "C" __attribute__((visibility("default"))) int value() { return part(1); }
"""


def test_an_archive_that_was_compiled_anew_is_tried_again(workshop: Workshop) -> None:
    workshop.source.write_text(USES_PART)
    linked = {"link_flags": [str(archive(workshop.folder, "-fno-pic"))]}
    first = workshop.load(more=linked)
    assert "recompile with -fPIC" in first["first_error"]
    assert "libpart.a" in first["first_error"]
    assert "Not tried again" in workshop.load(more=linked)["message"]
    archive(workshop.folder, "-fPIC")
    assert workshop.load(more=linked)["value"] == 2


NOISY = """#warning an error: is ahead
#pragma message "undefined reference to nothing"
int value() { int unused_error; return missing_thing; }
"""
LINKERS = [name for name in ("bfd", "gold", "lld") if shutil.which(f"ld.{name}")]


@pytest.mark.parametrize("linker", LINKERS)
def test_a_linkers_first_error_is_told(workshop: Workshop, linker: str) -> None:
    other = workshop.folder / "other.cpp"
    other.write_text(workshop.source.read_text())
    using = [f"-fuse-ld={linker}"]
    twice = workshop.load(sources=[str(workshop.source), str(other)], more={"link_flags": using})
    assert "multiple definition of" in twice["message"] or "duplicate symbol" in twice["message"]
    absent = workshop.load(more={"link_flags": [*using, "-lnowhere"]})
    assert "-lnowhere" in absent["first_error"]
    workshop.source.write_text(USES_PART)
    undefined = workshop.load(more={"link_flags": using})
    assert "undefined" in undefined["first_error"]
    assert "part" in undefined["first_error"]


@pytest.mark.parametrize(
    "env", [{"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"}, {}]
)
def test_neither_warnings_nor_colours_hide_an_error(
    workshop: Workshop, env: dict[str, str]
) -> None:
    workshop.source.write_text(NOISY)
    colours = {"compile_flags": ["-fdiagnostics-color=always"]}
    told = workshop.load(env=env, more=colours)
    assert "op.cpp:3" in told["first_error"], told
    assert "error: " in told["first_error"]
    assert "missing_thing" in told["message"]
    assert "\x1b" not in told["message"] + told["first_error"]


NEEDS_17 = "static_assert(__cplusplus >= 201703L);\n"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"CXXFLAGS": "-O2 -std=c++11"}, "-std=c++11, and op needs -std=c++17 or newer"),
        ({"CXXFLAGS": "-std=gnu++14"}, "-std=gnu++14, and op needs"),
        ({"CXXFLAGS": "-std=c++1y"}, "-std=c++1y, and op needs"),
        ({"CXXFLAGS": "-std=c++98"}, "-std=c++98, and op needs"),
        ({"CXXFLAGS": "-std=c++20 -std=c++0x"}, "-std=c++0x, and op needs"),
        ({"CFLAGS": "-std=c++11"}, "CFLAGS or CXXFLAGS holds -std=c++11"),
        ({"CXXFLAGS": "-std=c++11 -std=c++20"}, ""),
        ({"CXXFLAGS": "-std=c++17"}, ""),
        ({"CXXFLAGS": "-std=gnu++1z"}, ""),
        ({"CXXFLAGS": "-std=gnu++2a"}, ""),
        ({"CFLAGS": "-std=c99 -O2", "CXXFLAGS": "-std=c++20"}, ""),
        ({"CFLAGS": "-std=gnu11"}, ""),
        ({"CFLAGS": "-std=iso9899:2011"}, ""),
    ],
)
def test_a_standard_that_is_too_old_is_named(
    workshop: Workshop, flags: dict[str, str], reason: str
) -> None:
    workshop.source.write_text(NEEDS_17 + workshop.source.read_text())
    told = workshop.load(env=flags)
    if not reason:
        assert told.get("value") == 7, told
        return
    assert told["error"] == "OpUnavailable"
    assert reason in told["message"]
    assert workshop.compiles() == 0


def test_a_standard_is_measured_by_what_the_author_declared(workshop: Workshop) -> None:
    old = {"CXXFLAGS": "-std=c++11"}
    assert workshop.load(env=old, more={"compile_flags": ["-std=c++11"]})["value"] == 7
    told = workshop.load(env={"CXXFLAGS": "-std=c++17"}, more={"compile_flags": ["-std=c++20"]})
    assert "-std=c++17, and op needs -std=c++20 or newer" in told["message"]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"NVCC_APPEND_FLAGS": "-std=c++11"}, "NVCC_APPEND_FLAGS holds -std=c++11, and op needs"),
        ({"NVCC_APPEND_FLAGS": "-lineinfo --std c++14"}, "--std c++14, and op needs"),
        ({"NVCC_APPEND_FLAGS": "-Xcompiler=-std=c++11"}, "NVCC_APPEND_FLAGS holds"),
        ({"NVCC_PREPEND_FLAGS": "-Xcompiler -std=c++11"}, "NVCC_PREPEND_FLAGS holds"),
        ({"NVCC_PREPEND_FLAGS": "-std=c++14"}, ""),
        ({"NVCC_APPEND_FLAGS": "-std=c++20"}, ""),
        ({"CXXFLAGS": "-std=c++11"}, ""),
    ],
)
def test_a_standard_in_nvccs_variables_is_named(
    workshop: Workshop, flags: dict[str, str], reason: str
) -> None:
    workshop.source = workshop.source.rename(workshop.source.with_suffix(".cu"))
    workshop.source.write_text(NEEDS_17 + workshop.source.read_text())
    more = {"language": "cuda", "targets": ["8.0"]}
    nvcc = {"NVCC": shutil.which("nvcc") or "", "CXX": "g++"}
    told = workshop.load(env={**nvcc, **flags}, more=more)
    if reason:
        assert reason in told["message"], told
    else:
        assert told.get("value") == 7, told
