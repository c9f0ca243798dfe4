"""Compilers that hang, die, lie or babble, and what a build may use of the machine."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from engine_tools import Workshop, finish, runs, until


def test_a_hanging_compiler_is_stopped_in_time(workshop: Workshop) -> None:
    workshop.hang("compile")
    began = time.monotonic()
    told = workshop.load(env={"ACCEL_BUILD_TIMEOUT": "1"})
    assert told["error"] == "BuildFailed"
    assert "took longer than 1 s and was stopped" in told["message"]
    assert "ACCEL_BUILD_TIMEOUT" in told["message"]
    assert time.monotonic() - began < 60
    until(lambda: not any(runs(pid) for pid in workshop.hanging()), 5)
    assert workshop.litter() == []


def test_a_tool_that_hangs_is_left_and_its_children_killed(tmp_path: Path) -> None:
    from accel.jit.tools import process

    script = f"sleep 600 & echo $! > '{tmp_path}/child'; wait"
    began = time.monotonic()
    answer = process.run_tool(["/bin/sh", "-c", script], seconds=0.3)
    assert "did not answer within 0.3 s" in answer.trouble
    assert time.monotonic() - began < 60
    child = int((tmp_path / "child").read_text())
    until(lambda: not runs(child), 5)


def test_a_tool_that_babbles_is_stopped(workshop: Workshop) -> None:
    from accel.jit.tools import process

    answer = process.run_tool(["/bin/sh", "-c", "yes"], seconds=20)
    assert "printed more than" in answer.trouble


BABBLE = """case $step in compile) {} ;; esac"""
MISDEEDS = {
    "garbage": ("head -c 5000 /dev/urandom; exit 1", "exited with 1"),
    "garbage and success": ("head -c 5000 /dev/urandom; exit 0", "exited with 1"),
    "success without a result": ("exit 0", "exited with 1"),
    "a signal": ("kill -SEGV $$", "signal 11"),
    "an odd status": ("exit 250", "signal 122"),
    "silence": ("exit 3", "exited with 3"),
    "a lying message": ("echo 'op.cpp:1:1: error: not really'; exit 1", "op.cpp:1:1: error: not"),
    "a result that is no library": ('eval "last=\\${$#}"; echo junk > "$last"; exit 0', "with 1"),
}


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_a_misbehaving_compiler_is_reported(workshop: Workshop, misdeed: str) -> None:
    script, expected = MISDEEDS[misdeed]
    workshop.use_compiler(extra=BABBLE.format(script))
    told = workshop.load()
    assert told["error"] == "BuildFailed", told
    assert expected in told["message"], told
    assert Path(told["log_path"]).exists()
    assert workshop.artifacts() == []
    assert workshop.litter() == []


def test_a_compiler_that_prints_without_end_is_stopped(
    workshop: Workshop,
) -> None:
    workshop.use_compiler(extra=BABBLE.format("exec yes 'op.cpp:1:1: warning: once more'"))
    told = workshop.load()
    assert told["error"] == "BuildFailed"
    assert "printed more than 64 MiB" in told["message"]
    assert Path(told["log_path"]).stat().st_size < 70 << 20


def test_a_linker_error_is_the_first_error(workshop: Workshop) -> None:
    workshop.source.write_text(
        'extern "C" int absent();\n'
        'extern "C" __attribute__((visibility("default"))) int value() { return absent(); }\n'
    )
    told = workshop.load()
    assert told["error"] == "BuildFailed"
    assert "undefined reference to `absent'" in told["first_error"]
    assert "-shared" in told["command"]


def test_sources_edited_during_the_build_are_built_again(workshop: Workshop) -> None:
    pause = workshop.state / "wait-link"
    pause.touch()
    loader = workshop.start()
    until(lambda: list(workshop.cache.glob(".staging/*/op.so.start")))
    workshop.set_value(8)
    pause.unlink()
    assert finish(loader)["value"] == 8


def test_a_builder_that_ignores_and_blocks_signals_is_served(workshop: Workshop) -> None:
    """What a parent ignores or blocks is inherited, and must not keep a build from ending."""
    assert workshop.load(deaf=True)["value"] == 7
    workshop.set_value(8)
    workshop.hang("compile")
    told = workshop.load(deaf=True, env={"ACCEL_BUILD_TIMEOUT": "1"})
    assert "took longer" in told["message"]
    until(lambda: not any(runs(pid) for pid in workshop.hanging()), 5)


def test_max_jobs_is_honoured(workshop: Workshop) -> None:
    others = []
    for number in range(3):
        other = workshop.folder / f"other{number}.cpp"
        other.write_text(f"int other{number};\n")
        others.append(str(other))
    for jobs in (1, 2):
        workshop.hang("compile")
        loader = workshop.start(
            sources=[str(workshop.source), *others],
            env={"MAX_JOBS": str(jobs), "ACCEL_BUILD_TIMEOUT": "2"},
        )
        before = len(workshop.hanging())
        assert finish(loader)["error"] == "BuildFailed"
        if jobs == 1 or len(os.sched_getaffinity(0)) > 1:
            assert len(workshop.hanging()) - before == jobs


def test_affinity_is_honoured(workshop: Workshop) -> None:
    other = workshop.folder / "other.cpp"
    other.write_text("int other;\n")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        workshop.hang("compile")
        loader = workshop.start(
            sources=[str(workshop.source), str(other)], env={"ACCEL_BUILD_TIMEOUT": "2"}
        )
    finally:
        os.sched_setaffinity(0, allowed)
    assert finish(loader)["error"] == "BuildFailed"
    assert len(workshop.hanging()) == 1


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1; touch owned"])
def test_a_wrong_max_jobs_is_named(workshop: Workshop, jobs: str) -> None:
    told = workshop.load(env={"MAX_JOBS": jobs})
    assert told["error"] == "InvalidSetting"
    assert "MAX_JOBS=" in told["message"]
    assert workshop.litter() == []


def test_plain_lines_without_a_terminal(workshop: Workshop) -> None:
    log = workshop.load()["log"]
    assert re.search(r"building op \(cpu\) with (g|clang)\+\+ \d", log)
    assert "built op (cpu) in" in log
    assert "\r" not in log


def test_a_moving_line_on_a_terminal(workshop: Workshop) -> None:
    pause = workshop.state / "wait-compile"
    pause.touch()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ONE_LOAD, str(workshop.source), str(workshop.include)],
        env={**os.environ, **workshop.environment},
        stderr=theirs,
        cwd=Path(__file__).parents[2],
    )
    os.close(theirs)
    shown = _collect(ours)
    until(lambda: b"op.cpp" in shown)
    pause.unlink()
    assert process.wait(60) == 0
    assert b"\rop (cpu) 0/2 " in shown
    assert b" s op.cpp" in shown
    assert shown.rstrip(b" ").endswith(b"\r"), "the line is to be gone at the end"


@pytest.mark.parametrize(
    "state", ["sys.stderr.close()", "sys.stderr = None", "os.close(2)", "os.closerange(0, 3)"]
)
def test_without_a_usable_stderr_it_builds(workshop: Workshop, state: str) -> None:
    load = f"import os, sys; {state}\n{ONE_LOAD}".replace("))\n", "), verbose=True)\n")
    done = subprocess.run(
        [sys.executable, "-c", load, str(workshop.source), str(workshop.include)],
        env={**os.environ, **workshop.environment},
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0
    assert workshop.compiles() == 1


ONE_LOAD = """
import sys
from pathlib import Path
from accel import jit
jit.acquire(jit.Recipe("op", "cpu", (Path(sys.argv[1]),), (Path(sys.argv[2]),)))
"""


def _collect(terminal: int) -> bytearray:
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(terminal, 4096):
                shown.extend(part)
        except OSError:
            return

    threading.Thread(target=read, daemon=True).start()
    return shown


def test_the_whole_log_is_beside_the_artifact(workshop: Workshop) -> None:
    workshop.source.write_text(workshop.source.read_text() + "#warning look at this\n")
    told = workshop.load()
    log = (Path(told["path"]).parent / "build.log").read_text()
    assert "#warning look at this" in log
    assert "-ffp-contract=off" in log
    assert f"-c {workshop.source}" in log


def test_nothing_is_written_elsewhere(workshop: Workshop, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("home", "tmp", "here")]
    for place in places:
        place.mkdir()
    before = sorted(workshop.folder.rglob("*"))
    loader = subprocess.run(
        [sys.executable, "-B", "-c", ONE_LOAD, str(workshop.source), str(workshop.include)],
        env={
            **os.environ,
            **workshop.environment,
            "HOME": str(places[0]),
            "TMPDIR": str(places[1]),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        cwd=places[2],
        check=False,
    )
    assert loader.returncode == 0
    assert [path for place in places for path in place.rglob("*")] == []
    assert sorted(path for path in workshop.folder.rglob("*") if path.name != "compiles") == before
