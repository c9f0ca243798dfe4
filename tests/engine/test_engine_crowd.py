"""Guarantees 2 and 3: many cold processes, one compile; a failure is everybody's at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from engine_tools import Workshop, finish, until

from accel import jit
from accel.errors import BuildFailed

# A file system without locks, as processes see one.
NO_LOCKS = """#include <errno.h>
extern "C" int flock(int, int) { errno = ERRNO; return -1; }
"""


def crowd(workshop: Workshop, count: int = 8, **options: object) -> list[dict]:
    """Start that many loaders, let them begin together, and return what they told."""
    gun = workshop.state / "go"
    loaders = [workshop.start(wait_for=str(gun), **options) for _ in range(count)]
    gun.touch()
    return [finish(loader) for loader in loaders]


def test_cold_processes_share_one_compile(workshop: Workshop) -> None:
    told = crowd(workshop)
    assert {one["value"] for one in told} == {7}
    assert workshop.compiles() == 1
    assert workshop.litter() == []


def test_who_comes_to_the_lock_late_looks_again(workshop: Workshop) -> None:
    gate = workshop.state / "gate"
    late = workshop.start(dawdle=str(gate))
    until((workshop.state / "gate.reached").exists)
    assert workshop.load()["value"] == 7
    gate.touch()
    assert finish(late)["value"] == 7
    assert workshop.compiles() == 1


def no_locks(folder: Path, errno: str) -> str:
    """Return a library that makes locking fail in whoever preloads it."""
    source = folder / "no_locks.cpp"
    source.write_text(NO_LOCKS.replace("ERRNO", errno))
    visible = ("-fvisibility=default",)
    return str(jit.acquire(jit.Recipe("no_locks", "cpu", (source,), compile_flags=visible)).path)


@pytest.mark.parametrize("errno", ["ENOLCK", "ENOSYS"])
def test_without_locks_all_load_correctly(workshop: Workshop, tmp_path: Path, errno: str) -> None:
    told = crowd(workshop, env={"LD_PRELOAD": no_locks(tmp_path, errno)})
    assert {one["value"] for one in told} == {7}
    assert workshop.said("building without a lock") > 1
    assert workshop.compiles() > 1, "the locks worked: this test did not test anything"
    assert len(workshop.artifacts()) == 1
    assert workshop.litter() == []


UNKNOWN = "('missing' was not declared|use of undeclared identifier 'missing')"


def test_every_waiter_gets_the_failure(workshop: Workshop) -> None:
    workshop.source.write_text('#include "value.h"\nint value() { return missing; }\n')
    pause = workshop.state / "wait-compile"
    pause.touch()
    loaders = [workshop.start() for _ in range(6)]
    until(lambda: workshop.said("another process is building it") == 5)
    pause.unlink()
    told = [finish(loader) for loader in loaders]
    assert {one["error"] for one in told} == {"BuildFailed"}
    assert len({one["message"] for one in told}) == 1
    assert re.search(rf"op\.cpp:2:22: error: {UNKNOWN}", told[0]["first_error"])
    assert "-c" in told[0]["command"]
    assert told[0]["first_error"] in Path(told[0]["log_path"]).read_text()
    assert workshop.compiles() == 1


def test_a_failure_from_outside_is_tried_again_by_who_comes_later(workshop: Workshop) -> None:
    killed = "g++: fatal error: Killed signal terminated program cc1plus"
    workshop.use_compiler(extra=f"case $step in compile) echo '{killed}'; exit 1;; esac")
    assert workshop.load()["error"] == "BuildFailed"
    assert workshop.load()["error"] == "BuildFailed"
    assert workshop.compiles() == 2


def test_threads_share_one_compile(workshop: Workshop) -> None:
    assert workshop.load(threads=16)["value"] == 7
    assert workshop.compiles() == 1


def test_threads_share_one_compile_without_locks(workshop: Workshop, tmp_path: Path) -> None:
    assert workshop.load(threads=16, env={"LD_PRELOAD": no_locks(tmp_path, "ENOLCK")})["value"] == 7
    assert workshop.said("building without a lock") == 1
    assert workshop.compiles() == 1


def test_a_failure_names_file_line_command_and_log(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in workshop.environment.items():
        monkeypatch.setenv(name, text)
    workshop.source.write_text("#error this is the reason\n")
    with pytest.raises(
        BuildFailed, match=r"op\.cpp:1:2: error: (#error )?this is the reason"
    ) as told:
        jit.acquire(jit.Recipe("op", "cpu", (workshop.source,)))
    assert re.match(r"op \(cpu\): (g|clang)\+\+ ", str(told.value))
    assert "exited with 1" in str(told.value)
    assert told.value.log_path is not None
    assert told.value.log_path in str(told.value)
    assert told.value.command in Path(told.value.log_path).read_text()
