"""Faults of standard output: a full disk, a reader that has left, none at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from accel.cli.main import main

FULL = Path("/dev/full")
COMMANDS = (
    ("report", "--json"),
    ("explain", "fused_adam"),
    ("cache", "path"),
    ("cache", "prune", "--dry-run"),
    ("--help",),
    ("build", "--help"),
    ("--version",),
)


@pytest.fixture
def ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[IO[str] | None, tuple[str, ...]], tuple[int, str]]:
    """Return a function that runs a command with a standard output: its exit code and stderr."""
    monkeypatch.setenv("ACCELERATOR", "cpu")

    def run(output: IO[str] | None, command: tuple[str, ...]) -> tuple[int, str]:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "stdout", output)
            main(command)
        code = ended.value.code
        assert isinstance(code, int)
        return code, capfd.readouterr().err

    return run


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_is_one_line_and_an_exit_code(
    ends: Callable[..., tuple[int, str]], command: tuple[str, ...]
) -> None:
    for buffering in (1, 1 << 20):
        with FULL.open("w", buffering=buffering) as output:
            code, said = ends(output, command)
        assert code == 1
        assert said.count("\n") == 1 and "No space left on device" in said, said


@pytest.mark.parametrize("command", COMMANDS[2:5], ids=" ".join)
def test_a_reader_that_has_left_ends_a_command_silently(
    ends: Callable[..., tuple[int, str]], command: tuple[str, ...]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        assert ends(output, command) == (141, "")


def test_without_standard_output_a_command_still_does_its_work(
    ends: Callable[..., tuple[int, str]],
) -> None:
    assert ends(None, ("report",)) == (0, "")
    assert ends(None, ("explain", "nope"))[0] == 1


def test_the_process_ends_alike() -> None:
    command = [sys.executable, "-m", "accel", "report"]
    with FULL.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
