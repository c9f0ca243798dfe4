"""What a machine can do to a load becomes the next rung with its reason; only mistakes raise."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_tools import REPOSITORY, Workshop

import accel
from accel.builders.base import OpBuilder
from accel.errors import InvalidSetting, UnknownOp
from accel.jit.cache.trouble import last_note
from accel.ops.optimizers import kernel

# A frozen program starts itself where it means to start Python.
APP = """#!/bin/sh
echo started >> '{folder}/starts'
[ "$(wc -l < '{folder}/starts')" -gt 3 ] && exit 3
exec '{python}' '{folder}/main.py' "$@"
"""
MAIN = """
import sys
from pathlib import Path
from typing import Any
from pathlib import Path
sys.executable = {executable!r}
{more}
from accel import jit
recipe = jit.Recipe("op", "cpu", (Path({source!r}),), (Path({include!r}),))
print(jit.acquire(recipe).handle.value())
"""


def run_app(workshop: Workshop, executable: str | None, more: str) -> str:
    """Run a program whose `sys.executable` is that, and return what its library says."""
    folder = workshop.folder / "my app"
    folder.mkdir()
    app = folder / "app"
    app.write_text(APP.format(folder=folder, python=sys.executable))
    app.chmod(0o755)
    facts = {"source": str(workshop.source), "include": str(workshop.include), "more": more}
    facts["executable"] = str(app) if executable == "itself" else executable
    (folder / "main.py").write_text(MAIN.format(**facts))
    environment = {**os.environ, **workshop.environment, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([str(app)], capture_output=True, text=True, timeout=30, env=environment)
    assert (folder / "starts").read_text() == "started\n"
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("executable", "more"),
    [
        ("itself", "sys.frozen = True"),
        ("itself", ""),
        ("", ""),
        (None, ""),
        ("/nonexistent/python", ""),
        ("/bin/true", ""),
    ],
    ids=["frozen", "embedded", "empty", "none", "gone", "no Python"],
)
def test_a_build_starts_no_python(workshop: Workshop, executable: str | None, more: str) -> None:
    assert run_app(workshop, executable, more) == "7\n"


LOAD = """
import atexit, json, resource, sys, warnings
import torch, accel

def load(name="fused_adam"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            said = accel.accelerator_for("cpu").create_op_builder(name).load().implementation
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
    print(json.dumps([said, [str(one.message) for one in caught]]), flush=True)

"""
# Everything is imported before, since another user may not be able to read it.
PROCESSES = """
import importlib, os, pkgutil, subprocess, tempfile, concurrent.futures.thread
import accel.builders, accel.jit, accel.ops.optimizers.adam
for package in (accel.builders, accel.jit):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
if os.geteuid() == 0:
    # Root is held to no limit of processes.
    folder = tempfile.mkdtemp(dir="/tmp")
    os.chown(folder, 54321, 54321)
    os.environ["ACCEL_CACHE_DIR"] = folder
    os.setgroups([])
    os.setresgid(54321, 54321, 54321)
    os.setresuid(54321, 54321, 54321)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
load()
builder = accel.accelerator_for("cpu").create_op_builder("fused_adam")
print(json.dumps([builder.rungs()[1][1].reason, []]))
"""
# Room for small objects is left, or the interpreter itself would stop wherever it is.
MEMORY = """
import accel.ops.optimizers.adam, accel.builders.cpu, accel.jit.loading, accel.jit.cache.trouble
builder = accel.accelerator_for("cpu").create_op_builder("fused_adam")
small = [[number] for number in range(300_000)]
large = [bytearray(3000) for _ in range(3000)]
pinned = small[::64], large[::64]
del small, large
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (64 << 10), resource.RLIM_INFINITY))
load()
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
AT_EXIT = "atexit.register(load)"
NO_VERSION = """
#include <stdint.h>
#define EXPORTED extern "C" __attribute__((visibility("default")))
EXPORTED int32_t accel_adam_step(void *, void *) { return 0; }
"""
OTHER_VERSION = (
    NO_VERSION
    + """
EXPORTED int32_t accel_abi_version() { return 999; }
EXPORTED const char *accel_status_text(int32_t) { return ""; }
"""
)


def run(script: str, cache: Path, **env: str) -> list[list[Any]]:
    """Run a script of loads and return what each of them gave, with its warnings."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCEL_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD + script],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment | env,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def explained(cache: Path, op: str = "fused_adam", **env: str) -> dict[str, Any]:
    """Return what `accel explain` says in a process of its own."""
    command = [sys.executable, "-m", "accel", "explain", op, "--accelerator", "cpu", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCEL_CACHE_DIR": str(cache)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment | env
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


TROUBLES = {"no memory": (MEMORY, "(?i)memory"), "at the end": (AT_EXIT, "(?i)shutdown|jit")}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_the_machine_does_is_the_next_rung(cache_dir: Path, trouble: str) -> None:
    script, words = TROUBLES[trouble]
    ((said, _),) = run(script, cache_dir, ACCEL_OPS="native")
    assert re.match("(OpUnavailable|BuildFailed): |jit", said)
    assert re.search(words, said)
    ((said, warned),) = run(script, cache_dir)
    if said == "jit":
        return
    assert said == "reference"
    (warning,) = warned
    assert re.search(words, warning)
    assert re.search(words, explained(cache_dir)["last_failure"]["reason"])


def test_a_library_that_memory_lacks_for_stays_in_the_cache(session_cache: Path) -> None:
    ((said, _),) = run("load()", session_cache)
    assert said == "jit"
    before = {path: path.stat().st_ino for path in session_cache.glob("adam-*")}
    ((said, warned),) = run(MEMORY, session_cache)
    assert said == "jit" or (said == "reference" and re.search("(?i)memory", warned[0]))
    assert {path: path.stat().st_ino for path in session_cache.glob("adam-*")} == before


def test_a_limit_of_processes_is_the_next_rung(tmp_path: Path) -> None:
    (said, warned), (reason, _) = run(PROCESSES, tmp_path / "cache", OMP_NUM_THREADS="1")
    assert said == "reference"
    (warning,) = warned
    for text in (warning, reason):
        assert re.search("new thread|temporarily unavailable|no process can be started", text)
    ((said, _), _) = run(PROCESSES, tmp_path / "cache", OMP_NUM_THREADS="1", ACCEL_OPS="native")
    assert said.startswith("OpUnavailable: ")


def prebuilt_of(source: str, folder: Path) -> Path:
    """Build adam ahead of time, put a library of that source in its place; return the folder."""
    from accel.builders.cpu import FusedAdamBuilder
    from accel.jit.build.prebuilt import build_prebuilt

    place = build_prebuilt(FusedAdamBuilder().recipe(), folder)
    path = folder / "other.cpp"
    path.write_text(source)
    library = place / "adam.so"
    command = ["g++", "-shared", "-fPIC", "-fvisibility=hidden", str(path), "-o", str(library)]
    subprocess.run(command, check=True)
    library.chmod(0o644)
    manifest = json.loads((place / "manifest.json").read_text())
    data = library.read_bytes()
    manifest |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (place / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("source", [NO_VERSION, OTHER_VERSION], ids=["no version", "another"])
def test_a_prebuilt_of_another_kind_is_passed_over(
    session_cache: Path, tmp_path: Path, source: str
) -> None:
    folder = prebuilt_of(source, tmp_path)
    words = "accel_abi_version" if source is NO_VERSION else "version 999"
    ((said, warned),) = run("load()", session_cache, ACCEL_PREBUILT_DIR=str(folder))
    assert said == "jit"
    (warning,) = warned
    assert words in warning and str(folder) in warning
    note = last_note("cpu", "fused_adam")
    assert note is not None and words in note.reason


def test_mistakes_are_raised_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpBuilder, "_loaded", {})
    monkeypatch.setattr(kernel, "_kernels", {})
    for name, value in (("ACCEL_CPU_TARGET", "avx9000"), ("ACCEL_OPS", "fastest")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(InvalidSetting, match=f"{name}(=| is )'{value}'"):
                accel.accelerator_for("cpu").create_op_builder("fused_adam").load()
    with pytest.raises(UnknownOp):
        accel.accelerator_for("cpu").create_op_builder("fused_adm").load()
