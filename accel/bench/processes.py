"""Measurements of builds and loads in processes of their own, each with a cache of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accel import environment
from accel.errors import BuildFailed

_PACKAGE = Path(__file__).resolve().parents[2]
# Prints the seconds that one load takes once everything is imported.
LOAD = """
import json, sys, time
torch = sys.argv[1] == "torch"
if torch:
    import torch
from accel.builders import cpu
from accel import jit
jit.acquire, jit.Recipe
recipe = next(b for b in vars(cpu).values() if getattr(b, "NAME", "") == sys.argv[2])().recipe()
began = time.perf_counter()
library = jit.acquire(recipe)
print(json.dumps(time.perf_counter() - began))
"""
# The whole of a process's first load: accel's own modules are imported in it.
FIRST = """
import json, sys, time
import torch, accel
builder = accel.accelerator_for("cpu").create_op_builder(sys.argv[2])
began = time.perf_counter()
assert builder.load().implementation == "jit"
print(json.dumps(time.perf_counter() - began))
"""
_TORCH = """
import json, sys, time
import torch
from torch.utils import cpp_extension
began = time.perf_counter()
cpp_extension.load("bench_adam", [sys.argv[1]], extra_include_paths=sys.argv[2:],
                   extra_cflags=["-O3", "-fopenmp"], extra_ldflags=["-fopenmp"])
print(json.dumps(time.perf_counter() - began))
"""
# The same kernels in the way that torch's users write extensions.
_EXTENSION = """#include <torch/extension.h>
#include "{source}"
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{
  m.def("step", [](std::int64_t args) {{
    return accel_adam_step(reinterpret_cast<const accel_adam_args *>(args), nullptr);
  }});
}}
"""


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="accel-bench-") as folder:
        yield Path(folder)


def child(code: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start Python with this package on `code`; the last line of its output is a JSON number."""
    path = os.pathsep.join([str(_PACKAGE), *sys.path])
    # Installed packages have bytecode; without it, a load of a checkout compiles accel's modules.
    variables = {"PYTHONDONTWRITEBYTECODE": "", **variables}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment.changed(PYTHONPATH=path, **variables),
    )


def result(process: subprocess.Popen[str]) -> float:
    """Return the number that a child printed.

    Raises:
        BuildFailed: it failed; the message ends with the last of its errors.
    """
    out, errors = process.communicate()
    if process.returncode:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        raise BuildFailed(f"A measured process ended with {process.returncode}: {last}")
    seconds: float = json.loads(out.splitlines()[-1])
    return seconds


def load(op: str, cache: Path, torch: str = "bare", code: str = LOAD) -> float:
    """Return the seconds of a load in a process with this cache."""
    return result(child(code, torch, op, ACCEL_CACHE_DIR=str(cache)))


def cold(op: str) -> float:
    """Return the seconds of a build and load with an empty cache."""
    with scratch() as folder:
        return load(op, folder / "cache")


def bare(plan: Any) -> float:
    """Run a plan's own commands, one after the other, and nothing else; return the seconds."""
    with scratch() as folder:
        began = time.perf_counter()
        for command in plan.commands:
            subprocess.run(command.argv, cwd=folder, check=True)
        return time.perf_counter() - began


def torch_builder(source: Path, folders: tuple[Path, ...]) -> tuple[float, float]:
    """Return cold and warm seconds of ``torch.utils.cpp_extension.load``."""
    with scratch() as folder:
        extension = folder / "bench_adam.cpp"
        extension.write_text(_EXTENSION.format(source=source))
        arguments = (str(extension), *map(str, folders))
        first, again = (
            result(child(_TORCH, *arguments, TORCH_EXTENSIONS_DIR=str(folder / "root")))
            for _ in range(2)
        )
        return first, again
