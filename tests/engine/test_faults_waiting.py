"""Nobody waits for a builder that does not build: stopped, frozen, or no builder at all."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from engine_tools import Workshop, children, finish, kill, runs, until

from accel.jit.disk.holder import look


def lock_of(workshop: Workshop) -> Path:
    (path,) = until(lambda: list((workshop.cache / ".locks").glob("op-*.lock")))
    return path


def building(workshop: Workshop) -> tuple[subprocess.Popen[str], Path]:
    """Start a loader and return it, with the flag that keeps its compiler waiting."""
    pause = workshop.state / "wait-compile"
    pause.touch()
    builder = workshop.start()
    until(workshop.compiles)
    return builder, pause


def test_a_stopped_builder_is_named_and_not_waited_for(workshop: Workshop) -> None:
    builder, pause = building(workshop)
    os.kill(builder.pid, signal.SIGSTOP)
    pause.unlink()
    began = time.monotonic()
    told = [workshop.start() for _ in range(3)]
    assert [finish(one)["value"] for one in told] == [7, 7, 7]
    assert time.monotonic() - began < 60
    assert workshop.compiles() == 2, "of those who waited one builds, and the others take it"
    (warning,) = {
        line
        for log in workshop.logs
        for line in log.read_text().splitlines()
        if "is stopped" in line
    }
    for fact in ("op (cpu)", f"process {builder.pid} on {os.uname().nodename}, since ", ":"):
        assert fact in warning
    assert f"kill -CONT {builder.pid}" in warning
    os.kill(builder.pid, signal.SIGCONT)
    assert finish(builder)["value"] == 7
    assert workshop.litter() == []
    assert len(workshop.artifacts()) == 1


def test_who_waits_for_one_at_work_is_told_for_whom(workshop: Workshop) -> None:
    builder, pause = building(workshop)
    waiter = workshop.start()
    until(lambda: workshop.said("waited 5 s for its build by"), 15)
    assert workshop.said(f"by process {builder.pid} on {os.uname().nodename}, since ")
    pause.unlink()
    assert (finish(builder)["value"], finish(waiter)["value"]) == (7, 7)
    assert workshop.compiles() == 1


def test_a_lock_without_a_sign_of_life_is_not_waited_for(workshop: Workshop) -> None:
    builder, pause = building(workshop)
    path = lock_of(workshop)
    record = json.loads(path.read_bytes())
    kill(builder)
    pause.unlink()
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert f"process {os.getpid()} on this machine" in look(path).who, "the record is another's"
        path.write_text(json.dumps(record | {"host": "elsewhere-1", "node": "elsewhere"}))
        began = time.monotonic()
        told = workshop.load()
    assert told["value"] == 7
    assert 5 < time.monotonic() - began < 60
    assert f"by process {builder.pid} on elsewhere, since " in told["log"]
    assert "has shown no progress for 10 s; building it here instead" in told["log"]


def stop_of_build(workshop: Workshop, builder: subprocess.Popen[str], which: str) -> int:
    (ninja,) = children(builder.pid)
    if which == "ninja":
        return ninja
    return int((workshop.state / "compiles").read_text().split()[-1])


@pytest.mark.parametrize("which", ["ninja", "compiler"])
def test_what_is_stopped_of_a_build_is_continued(workshop: Workshop, which: str) -> None:
    builder, pause = building(workshop)
    pid = stop_of_build(workshop, builder, which)
    os.kill(pid, signal.SIGSTOP)
    pause.unlink()
    waiter = workshop.start()
    assert (finish(builder, 20)["value"], finish(waiter, 20)["value"]) == (7, 7)
    assert workshop.said(f"process {pid} of the build was stopped") == 1
    assert workshop.compiles() == 1


def test_a_stopped_builder_that_is_killed_leaves_nothing(workshop: Workshop) -> None:
    workshop.hang("compile")
    builder = workshop.start()
    (compiler,) = until(workshop.hanging)
    os.kill(builder.pid, signal.SIGSTOP)
    builder.kill()
    builder.communicate()
    until(lambda: not runs(compiler), 5)
