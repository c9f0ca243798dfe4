"""Guarantee 11: what a warm load imports, which is most of what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WARM = """
import json, sys
import torch, accel
builder = accel.accelerator_for("cpu").create_op_builder("cpu_adam")
before = {*sys.modules}
assert builder.load().implementation == "jit"
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
NEEDED = {"accel.record", "accel.host", "accel.host.process"}
NEEDED |= {f"accel.jit.{name}" for name in JIT} | {f"accel.ops.{name}" for name in OPS}
NEEDED |= {f"accel.ops.optimizers{name}" for name in OPTIMIZERS}


def imported(cache: Path) -> set[str]:
    """Return the modules of this package that one load imports, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", WARM],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ACCEL_CACHE_DIR": str(cache)},
        check=True,
    )
    return {name for name in json.loads(done.stdout) if name.startswith("accel.")}


def test_a_warm_load_imports_nothing_for_a_build(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert {"accel.jit.build.build", "accel.jit.build.compiling"} <= imported(cache), (
        "the watch sees nothing"
    )
    assert sorted(imported(cache) - NEEDED) == []
