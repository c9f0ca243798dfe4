"""What tools answer, that they say no, and that they fail to answer, over several processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from engine_tools import REPOSITORY, Workshop, runs, until

ONE_OR_MANY = """#ifdef _OPENMP
#define VALUE 2
#else
#define VALUE 1
#endif
extern "C" __attribute__((visibility("default"))) int value() { return VALUE; }
"""
WHICH = """#ifndef SECOND
#define SECOND 1
#endif
extern "C" __attribute__((visibility("default"))) int value() { return SECOND; }
"""
# Each keeps the compiler from answering, as a short machine does, while a file says so.
TROUBLES = {
    "killed": "kill -9 $$",
    "its child killed": "echo 'g++: fatal error: Killed signal terminated program cc1plus'; exit 1",
    "memory": "ulimit -v 30000",
    "descriptors": "ulimit -n 3",
    "disk": "echo 'cannot write /tmp/x.ii: No space left on device'; exit 1",
    "no program": "exit 127",
}


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def troubled(workshop: Workshop, trouble: str, name: str = "g++-in-trouble") -> Path:
    """A compiler that cannot be asked for ``omp.h`` while the file `short` is there."""
    short = f"[ ! -e '{workshop.state}/short' ] || {{ {trouble}; }}"
    text = f"case \" $* \" in *omp.h*|*' - '*) {short};; esac"
    return script(workshop.folder / "bin" / name, f'{text}\nexec {shutil.which("g++")} "$@"')


def kept(workshop: Workshop) -> list[Path]:
    return list(workshop.cache.glob(".toolchains/*"))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_compiler_that_fails_to_answer_decides_nothing(workshop: Workshop, trouble: str) -> None:
    workshop.source.write_text(ONE_OR_MANY)
    workshop.environment["CXX"] = str(troubled(workshop, TROUBLES[trouble]))
    short = workshop.state / "short"
    short.touch()
    told = workshop.load(more={"openmp": True})
    assert told["error"] == "OpUnavailable", told
    assert "CXX=" in told["message"]
    assert kept(workshop) == []
    assert workshop.artifacts() == []
    short.unlink()
    assert workshop.load(more={"openmp": True})["value"] == 2


def test_another_compiler_steps_in_with_a_warning_and_for_this_process_only(
    workshop: Workshop,
) -> None:
    folder = troubled(workshop, "kill -9 $$", "g++").parent
    script(folder / "clang++", f'exec {shutil.which("g++")} -DSECOND=2 "$@"')
    workshop.source.write_text(WHICH)
    del workshop.environment["CXX"]
    workshop.environment["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    (workshop.state / "short").touch()
    told = workshop.load()
    assert told["value"] == 2
    assert "g++ was ended by signal 9" in told["log"]
    assert "clang++ in this process instead" in told["log"]
    (workshop.state / "short").unlink()
    assert workshop.load()["value"] == 1


def launchers(folder: Path) -> dict[str, Path]:
    """Programs that run a compiler which only they know of."""
    source = folder / "launcher.c"
    source.write_text(
        "#include <stdlib.h>\n#include <unistd.h>\n"
        'int main(int n, char **v) { v[0] = getenv("TOOL"); return execv(v[0], v); }\n'
    )
    subprocess.run(["gcc", "-w", str(source), "-o", str(folder / "launcher")], check=True)
    return {
        "by a variable": script(folder / "by-variable", 'exec "$TOOL" "$@"'),
        "by a file": script(folder / "by-file", f'exec "$(cat \'{folder}/tool\')" "$@"'),
        "a program": folder / "launcher",
    }


@pytest.mark.parametrize("kind", ["by a variable", "by a file", "a program"])
def test_a_launcher_is_believed_for_one_process(workshop: Workshop, kind: str) -> None:
    first = Path(str(shutil.which("g++")))
    second = script(workshop.folder / "second", f'exec {first} -DSECOND=2 "$@"')
    workshop.source.write_text(WHICH)
    workshop.environment["CXX"] = str(launchers(workshop.folder)[kind])

    def load(tool: Path) -> int:
        (workshop.folder / "tool").write_text(str(tool))
        told = workshop.load(env={"TOOL": str(tool)}, watch=True)
        asked.append(told.get("events", [told]))
        value: int = told.get("value", told)
        return value

    asked: list[list[str]] = []
    assert [load(first), load(second), load(first), load(second)] == [1, 2, 1, 2]
    assert asked[2] == ["subprocess.Popen"], "one question, and no build"
    assert kept(workshop) == []


def test_words_before_the_compiler_make_a_launcher(workshop: Workshop) -> None:
    """As ``ccache g++``: what such a program does is not known from its file."""
    launcher = script(workshop.folder / "launch", 'exec "$@" ${MORE}')
    workshop.source.write_text(WHICH)
    workshop.environment["CXX"] = f"{launcher} g++"
    assert workshop.load()["value"] == 1
    assert workshop.load(env={"MORE": "-DSECOND=2"})["value"] == 2
    assert workshop.load()["value"] == 1


def report(env: dict[str, str], prelude: str = "pass") -> subprocess.Popen[str]:
    script = (
        f"import sys; {prelude}; from accel.cli.main import main; "
        "sys.argv = ['accel', 'report']; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **env},
        cwd=REPOSITORY,
    )


@pytest.mark.parametrize(
    ("what", "prelude"),
    [
        ("exit 3", "pass"),
        ("exec g++ \"$@\"", "pass"),
        ("exec sleep 600", "import accel.jit.tools.asking as a; a.PATIENCE_S = 0.5"),
    ],
)  # fmt: skip
def test_a_report_asks_a_compiler_once(workshop: Workshop, what: str, prelude: str) -> None:
    compiler = script(workshop.folder / "c++", f"echo x >> '{workshop.state}/asked'\n{what}")
    out, _ = report(workshop.environment | {"CXX": str(compiler)}, prelude).communicate(timeout=60)
    assert (workshop.state / "asked").read_text().split() == ["x"], out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_what_a_report_asks_ends_with_it(workshop: Workshop, number: int) -> None:
    told = workshop.state / "pids"
    text = f"sleep 600 & echo $! $$ > '{told}.new'; mv '{told}.new' '{told}'; wait"
    asker = report({"CXX": str(script(workshop.folder / "c++", text))})
    try:
        until(told.exists)
        asker.send_signal(number)
        asker.communicate(timeout=20)
    finally:
        asker.kill()
        asker.communicate()
    until(lambda: not any(runs(int(pid)) for pid in told.read_text().split()), 5)
