"""Guarantees 1 and 9: whatever is killed, nobody waits or fails, and nothing keeps running."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest
from engine_tools import Workshop, children, finish, kill, runs, until


@pytest.mark.parametrize("step", ["compile", "link"])
def test_a_killed_builder_stops_nobody(workshop: Workshop, step: str) -> None:
    flag = workshop.hang(step)
    builder = workshop.start()
    (compiler,) = until(workshop.hanging)
    waiter = workshop.start()
    time.sleep(0.3)
    flag.unlink()
    kill(builder)
    assert finish(waiter, 20)["value"] == 7
    until(lambda: not runs(compiler), 5)


@pytest.mark.parametrize("moment", ["before publish", "after publish"])
def test_killed_around_publishing(workshop: Workshop, moment: str) -> None:
    assert workshop.load(die_at=moment)["code"] == -signal.SIGKILL
    assert len(workshop.artifacts()) == (moment == "after publish")
    told = workshop.load()
    assert told["value"] == 7
    assert workshop.compiles() == (1 if moment == "after publish" else 2)


def test_children_die_with_a_parent_that_builds_in_a_thread(workshop: Workshop) -> None:
    workshop.hang("compile")
    builder = workshop.start(threads=1)
    (compiler,) = until(workshop.hanging)
    kill(builder)
    until(lambda: not runs(compiler), 5)


def test_children_die_though_a_forked_worker_keeps_every_pipe_open(workshop: Workshop) -> None:
    flag = workshop.hang("compile")
    worker_file = workshop.state / "worker"
    builder = workshop.start(threads=1, fork_first=str(worker_file))
    (compiler,) = until(workshop.hanging)
    (workshop.state / "worker.go").touch()
    worker = int(until(lambda: worker_file.exists() and worker_file.read_text()))
    os.kill(builder.pid, signal.SIGKILL)
    try:
        until(lambda: not runs(compiler), 5)
        flag.unlink()
        assert workshop.load()["value"] == 7
    finally:
        os.kill(worker, signal.SIGKILL)
        builder.communicate()


def build_of(workshop: Workshop, builder: subprocess.Popen[str]) -> tuple[int, list[int], int]:
    """Return ninja, its guards and the compiler of a build that hangs."""
    (compiler,) = until(workshop.hanging)
    (ninja,) = children(builder.pid)
    guards = until(lambda: [one for one in children(ninja) if is_guard(one, ninja)])
    assert len(guards) == 2
    return ninja, guards, compiler


def is_guard(pid: int, ninja: int) -> bool:
    """Guards are of ninja's process group, a step of the build is of its own."""
    return os.getpgid(pid) == ninja


def test_killed_guards_leave_the_build_alone(workshop: Workshop) -> None:
    pause = workshop.state / "wait-compile"
    pause.touch()
    builder = workshop.start()
    until(workshop.compiles)
    (ninja,) = children(builder.pid)
    for guard in [one for one in children(ninja) if is_guard(one, ninja)]:
        os.kill(guard, signal.SIGKILL)
    pause.unlink()
    assert finish(builder)["value"] == 7


@pytest.mark.parametrize("stopped", [True, False], ids=["after being stopped", "running"])
def test_guards_and_ninja_killed_at_once_leave_no_compiler(
    workshop: Workshop, stopped: bool
) -> None:
    workshop.hang("compile")
    builder = workshop.start()
    ninja, guards, compiler = build_of(workshop, builder)
    for guard in guards:
        if stopped:
            os.kill(guard, signal.SIGSTOP)
        os.kill(guard, signal.SIGKILL)
    os.kill(ninja, signal.SIGKILL)
    assert finish(builder)["error"] == "BuildFailed"
    until(lambda: not runs(compiler), 5)


def test_a_killed_ninja_leaves_no_compiler(workshop: Workshop) -> None:
    flag = workshop.hang("compile")
    builder = workshop.start()
    ninja, guards, compiler = build_of(workshop, builder)
    os.kill(ninja, signal.SIGKILL)
    assert finish(builder)["error"] == "BuildFailed"
    until(lambda: not any(map(runs, (compiler, *guards))), 5)
    flag.unlink()
    assert workshop.load()["value"] == 7


@pytest.mark.parametrize("other", ["ninja", "first guard", "second guard"])
def test_parent_and_another_killed_at_once_leave_no_compiler(
    workshop: Workshop, other: str
) -> None:
    workshop.hang("compile")
    builder = workshop.start()
    ninja, guards, compiler = build_of(workshop, builder)
    os.kill(builder.pid, signal.SIGKILL)
    os.kill({"ninja": ninja, "first guard": guards[0]}.get(other, guards[1]), signal.SIGKILL)
    builder.communicate()
    until(lambda: not any(map(runs, (compiler, ninja, *guards))), 8)


def test_interrupting_the_builder_ends_the_build(workshop: Workshop) -> None:
    workshop.hang("compile")
    builder = workshop.start()
    (compiler,) = until(workshop.hanging)
    builder.send_signal(signal.SIGINT)
    assert finish(builder)["code"] != 0
    assert workshop.said("KeyboardInterrupt")
    until(lambda: not runs(compiler), 5)
    assert workshop.litter() == []


def test_a_killed_compiler_is_reported_and_forgotten(workshop: Workshop) -> None:
    flag = workshop.hang("compile")
    builder = workshop.start()
    (compiler,) = until(workshop.hanging)
    os.kill(compiler, signal.SIGKILL)
    told = finish(builder)
    assert told["error"] == "BuildFailed"
    assert "signal 9" in told["message"]
    flag.unlink()
    assert workshop.load()["value"] == 7


def storm(workshop: Workshop, rounds: int) -> None:
    """Six loaders a round; one is killed at random; the others must be right."""
    dice = random.Random(os.urandom(8))
    for number in range(rounds):
        workshop.set_value(number)
        loaders = [workshop.start() for _ in range(6)]
        time.sleep(dice.uniform(0.0, 0.8))
        victim = dice.choice(loaders)
        victim.kill()
        for loader in loaders:
            told = finish(loader, 60)
            if loader is victim and told["code"] == -signal.SIGKILL:
                continue
            assert told.get("value") == number, told
            assert not told["torch"]
        assert len(workshop.artifacts()) == number + 1
    prune = "import accel.jit.cache.maintenance as m; m.prune(current=())"
    environment = {**os.environ, **workshop.environment}
    subprocess.run([os.sys.executable, "-c", prune], env=environment, check=True)
    left = [path for path in workshop.cache.rglob("*") if path.is_file()]
    assert [path for path in left if path.parent.name != ".toolchains"] == []


def test_storm(workshop: Workshop) -> None:
    storm(workshop, 30)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_long_storm(workshop: Workshop) -> None:
    storm(workshop, 300)
