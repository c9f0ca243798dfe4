"""The example of one file, and what the larger one says of a busy machine."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
STAT = """cpu  1000 0 1000 9000 500 0 0 0 0 0
cpu0 100 10 200 4000 250 5 5 30 0 0
cpu1 300 0 100 5000 250 0 0 0 40 0
intr 12345
"""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("load")


def test_the_small_example_is_small_and_learns() -> None:
    script = EXAMPLES / "small.py"
    assert len(script.read_text().splitlines()) <= 40
    done = subprocess.run(
        [sys.executable, script, "30"],
        env={**os.environ, "ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    first, last, told = done.stdout.splitlines()
    losses = [float(line.rpartition(" ")[2]) for line in (first, last)]
    assert first.startswith("step 1: ") and last.startswith("step 30: ") and losses[1] < losses[0]
    assert re.fullmatch(r"cpu, FusedAdam \w+: [\d,]+ samples/s", told)


def test_work_is_counted_on_the_processors_that_may_be_used(load: ModuleType) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    assert load.busy_seconds(STAT, {0}) == 350 / tick
    assert load.busy_seconds(STAT, {0, 1}) == 750 / tick
    assert load.busy_seconds(STAT, {0, 2}) is None
    assert load.busy_seconds("", {0}) is None


@pytest.mark.parametrize(
    ("own", "others", "slowed"),
    [(2.0, 0.0, False), (1.0, 0.5, False), (1.0, 1.0, True), (1.9, 0.1, False), (0.2, 1.7, True)],
)
def test_a_crowd_is_told_from_a_quiet_machine(
    load: ModuleType, own: float, others: float, slowed: bool
) -> None:
    said = load.hint(own, others, 2)
    assert bool(said) is slowed
    if slowed:
        assert said.startswith(f"other processes kept {others:.1f} of 2 CPUs busy, this one {own}")


def test_nothing_is_said_where_nothing_can_be_known(
    load: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load.Load().hint()[:15] in {"", "other processes"}
    monkeypatch.setattr(load, "_STAT", tmp_path / "absent")
    assert load.Load().hint() == ""


@pytest.mark.parametrize("asleep", ["", "0"])
def test_the_training_example_ends_with_its_throughput_and_a_hint(
    load: ModuleType,
    asleep: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ACCELERATOR", "cpu")
    monkeypatch.setenv("GOMP_SPINCOUNT", asleep)
    monkeypatch.setenv("OMP_WAIT_POLICY", "")
    crowded = "other processes kept 1.0 of 2 CPUs busy, this one 1.0: it would be faster alone"
    monkeypatch.setattr(load.Load, "hint", lambda self: crowded)
    train = importlib.import_module("train")
    monkeypatch.setenv("ACCEL_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sizes = ("--width", "16", "--heads", "1", "--depth", "1", "--context", "8", "--batch", "2")
    assert train.main([*sizes, "--steps", "2", "--out", str(tmp_path)]) == 0
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    (speed,) = [line for line in lines if line.startswith("throughput ")]
    assert re.fullmatch(r"throughput +[\d,]+ tokens/s", speed)
    (slowed,) = [line for line in lines if line.startswith("slowed ")]
    assert crowded in slowed and ("accel run" in slowed) is (not asleep)
