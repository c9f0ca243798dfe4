"""Guarantee 11: what a warm load imports, which is most of what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import accel

ROOT = Path(__file__).parents[2]
WARM = """
import json, sys
import torch, accel
builder = accel.accelerator_for("cpu").create_op_builder("cpu_adam")
before = {*sys.modules}
assert builder.load().implementation == "jit"
print(json.dumps([name for name in sys.modules if name not in before]))
"""
CHOICE = """
import json, sys
import torch
before = {*sys.modules}
import accel
accel.get_accelerator().get_op_builder("FusedAdamBuilder")()
print(json.dumps([name for name in sys.modules if name not in before]))
"""
# Each costs 0.2 ms or more. One for a build, another device, another op or a report is a mistake;
# one that every load needs is added here.
JIT = {
    *("disk", "disk.location", "disk.lock", "disk.safe_io", "disk.source_dirs", "disk.trust"),
    *("cache", "cache.artifact", "cache.elf", "cache.store"),
    *("tools", "tools.compiler", "tools.compilers", "tools.flags", "tools.programs"),
    *("headers", "library", "loading", "plan", "recipe", "source_changes"),
}
OPTIMIZERS = {
    *(
        "",
        ".abi",
        ".adam",
        ".capture",
        ".checks",
        ".family",
        ".ids",
        ".kernel",
        ".lists",
        ".surface",
    ),
    *(".prepared", ".prepared.plan", ".prepared.table"),
    *(".reference", ".reference.adam", ".reference.common"),
}
OPS = {"abi", "base", "checks", "native", "overlap", "threads"}
NEEDED = {"accel.host.process", "accel.ops"}
NEEDED |= {f"accel.jit.{name}" for name in JIT} | {f"accel.ops.{name}" for name in OPS}
NEEDED |= {f"accel.ops.optimizers{name}" for name in OPTIMIZERS}


# What it takes to choose the host and to find a builder there.
CONTRACT = {"amp", "device", "dtypes", "forward", "memory", "ops", "randomness", "streams", "tools"}
CHOSEN = {"accel.base", "accel.contract", "accel.cpu", "accel.current", "accel.environment"}
CHOSEN |= {"accel.errors", "accel.host", "accel.host.memory", "accel.host.streams", "accel.probe"}
CHOSEN |= {"accel.record", "accel.registry", "accel.targets", "accel.builders", "accel.jit"}
CHOSEN |= {"accel.jit.disk", "accel.jit.disk.source_dirs"}
CHOSEN |= {f"accel.contract.{name}" for name in CONTRACT}
CHOSEN |= {f"accel.builders.{name}" for name in ("base", "choosing", "convention", "cpu")}
CHOSEN |= {f"accel.builders.{name}" for name in ("kinds", "lookup")}
# And to refuse each other device, which is not there.
REFUSED = {"accel.cuda", "accel.xpu", "accel.hpu", "accel.vendors", "accel.torch_build"}


def imported(cache: Path, code: str = WARM, **variables: str) -> set[str]:
    """Return the modules of this package that some code imports, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCEL_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment | variables,
        check=True,
    )
    return {name for name in json.loads(done.stdout) if name.startswith("accel.")}


def test_a_warm_load_imports_nothing_for_a_build(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert {"accel.jit.build.build", "accel.jit.build.compiling"} <= imported(cache), (
        "the watch sees nothing"
    )
    assert sorted(imported(cache) - NEEDED) == []


@pytest.mark.parametrize(("asked", "more"), [("cpu", set[str]()), ("", REFUSED)])
def test_choosing_the_host_imports_no_reports_errors_or_tools(
    tmp_path: Path, asked: str, more: set[str]
) -> None:
    if not asked and accel.get_accelerator().name != "cpu":
        pytest.skip("another device is chosen here")
    found = imported(tmp_path / "cache", CHOICE, ACCELERATOR=asked)
    assert more <= found, "the watch sees nothing"
    assert sorted(found - CHOSEN - more) == []
