"""The benchmark for a GPU where there is none: refused in a line, rehearsed, and never lost."""

import json
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import torch

from accel.cuda import CUDAAccelerator
from accel.jit import csrc_dir

ROOT = csrc_dir().parent
TREE = ("accel", "benchmarks", "csrc", "op_builder")
ITEMS = """
import os, signal, time
def check_good(bench): return "as it should be"
def check_bad(bench): raise ValueError("as it should not be")
def check_killed(bench): os.kill(os.getpid(), signal.SIGSEGV)
def check_hung(bench): time.sleep(600)
def measure(bench): return {"seconds": 1.0}
"""


@pytest.mark.skipif(CUDAAccelerator().is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line():
    script = ROOT / "benchmarks/gpu.py"
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("No usable NVIDIA driver")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def strange(tmp_path):
    """Return a Python that has this one's packages but not ours, and a copy of the repository."""
    for name in TREE:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "accel" / name, ignore=ignored)
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(torch.__file__).parents[1].iterdir():
        if "accel_torch" not in entry.name and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    return tmp_path / "venv/bin/python", tmp_path / "accel"


@pytest.mark.timeout(600)
def test_what_it_checks_holds_in_a_rehearsal_where_nothing_is_installed(strange, tmp_path):
    """So that on the day of a GPU a failure is the GPU's."""
    python, tree = strange
    done = subprocess.run(
        [python, tree / "benchmarks/gpu.py", "--rehearse", "cpu", "--out", tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "cpu.json").read_text())
    assert found["accel"] == "not installed"
    assert {"types", "ops", "many", "adam8bit", "replays", "huge"} <= {*found["checks"]}
    assert not [name for name, measure in found["measures"].items() if "failed" in measure]
    assert (tmp_path / "cpu.png").stat().st_size > 10_000


def test_items_that_fail_crash_or_hang_cost_no_other_its_result(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from gpu_bench.agenda import Item
    from gpu_bench.conductor import Conductor

    (tmp_path / "strange_items.py").write_text(ITEMS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    named = [Item(name, "check", f"strange_items:check_{name}", seconds=60)
             for name in ("bad", "killed", "good")]  # fmt: skip
    named.insert(2, Item("hung", "check", "strange_items:check_hung", seconds=1))
    named.insert(0, Item("measure", "measure", "strange_items:measure"))
    found = {}
    conductor = Conductor(ROOT, "cpu", True, time.perf_counter() + 100)
    conductor.play(named, lambda kind, name, result: found.update({name: result}))
    assert [*found] == ["measure", "bad", "killed", "hung", "good"]
    assert found["measure"]["seconds"] == 1.0
    assert found["bad"]["fact"] == "ValueError: as it should not be"
    assert found["killed"]["fact"] == "the process ended with -11"
    assert found["hung"]["fact"].startswith("stopped after 1 s")
    assert found["good"]["held"]


def test_what_no_time_is_left_for_is_told(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from gpu_bench.agenda import Item
    from gpu_bench.conductor import Conductor

    found = {}
    item = Item("late", "measure", "gpu_bench.measures:copy")
    conductor = Conductor(ROOT, "cpu", True, time.perf_counter() - 1)
    conductor.play([item], lambda kind, name, result: found.update({name: result}))
    assert found == {"late": {"failed": "left out: no time was left"}}
