"""Limits of the process, and what ends a build from outside, are told as what they are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from engine_tools import REPOSITORY, Workshop, finish, until

SCRIPT = """
import ctypes, os, resource, subprocess, sys
from pathlib import Path
from accel import jit
from accel.errors import AccelError
folder = Path(sys.argv[1])
recipe = jit.Recipe("op", "cpu", (folder / "op.cpp",), (folder / "include",))
if len(sys.argv) > 2:
    jit.acquire(recipe.replace(compile_flags=("-DEARLIER",)))

def limit(name, number):
    resource.setrlimit(getattr(resource, name), (number, number))

def open_files_left(number):
    used = len(os.listdir("/proc/self/fd")) - 1
    limit("RLIMIT_NOFILE", used + number)

{limits}
try:
    print(jit.acquire(recipe).handle.value())
except AccelError as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""


def load_under(workshop: Workshop, limits: str, *, warm: bool = False) -> str:
    """Return the value or the error of a load after these lines; warm: a build went before."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(limits=limits), str(workshop.folder), *["w"] * warm],
        env={**os.environ, **workshop.environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_an_inherited_descriptor_above_the_limit_harms_nothing(workshop: Workshop) -> None:
    high = """
fd = os.open("/dev/null", os.O_RDONLY)
os.dup2(fd, 199, inheritable=True)
limit("RLIMIT_NOFILE", 128)
"""
    assert load_under(workshop, high) == "7"


LIMITS = {
    "stack": ('limit("RLIMIT_STACK", 100_000)', "signal 11, perhaps by a low limit on the stack"),
    "no open files": ("open_files_left(0)", "Too many open files"),
    "few open files": ("open_files_left(4)", "may open only .* files|Too many open files"),
    "more open files": ("open_files_left(7)", "may open only .* files|Too many open files|^7$"),
    "file size 0": ('limit("RLIMIT_FSIZE", 0)', "File too large. .*limit on file sizes"),
    "file size": ('limit("RLIMIT_FSIZE", 4096)', "File too large"),
    "processor time": ('limit("RLIMIT_CPU", 10**6)', "^7$"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_told_as_itself(workshop: Workshop, name: str) -> None:
    limits, words = LIMITS[name]
    told = load_under(workshop, limits, warm=True)
    assert re.search(words, told), told
    for wrong in ("did not end", "Bad file descriptor", "MAX_JOBS", "another folder", "::"):
        assert wrong not in told, told


AUTO = """
import os, resource, sys, warnings
import torch, accel
warnings.simplefilter("always")
cpu = accel.accelerator_for("cpu")
{before}
used = len(os.listdir("/proc/self/fd")) - 1
resource.setrlimit(resource.RLIMIT_NOFILE, (used, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for again in range(2):
    try:
        print(cpu.create_op_builder("fused_adam").load().implementation)
    except Exception as error:
        print(type(error).__name__, error)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
"""


def auto(cache: Path, before: str) -> tuple[list[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", AUTO.format(before=before)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "ACCEL_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines(), done.stderr


def test_without_any_descriptor_the_limit_is_told_not_an_error_of_python(
    session_cache: Path,
) -> None:
    """Not even the reference's own files can be opened, so there is no rung; later there is."""
    (first, second), _ = auto(session_cache, "")
    assert first.startswith("OpUnavailable fused_adam (cpu): not even its PyTorch reference can be")
    assert "Too many open files" in first
    assert "Raise the limit on open files (ulimit -n)" in first
    assert second == "jit"


def test_without_any_descriptor_what_is_imported_is_used(session_cache: Path) -> None:
    before = """
import accel.builders.cpu, accel.ops.optimizers.adam, accel.ops.optimizers.reference.common
import accel.jit.loading, accel.jit.cache.trouble, accel.jit.disk.location, tempfile
cpu.create_op_builder("fused_adam").stand_in()
os.environ["ACCEL_OPS"] = "reference"
cpu.create_op_builder("fused_adam").load()
del os.environ["ACCEL_OPS"]
"""
    (first, second), warned = auto(session_cache, before)
    assert first == "reference", (first, warned)
    assert "Too many open files" in warned and "ulimit -n" in warned
    assert "ACCEL_CACHE_DIR" not in warned, "no folder is to blame"
    assert second in {"jit", "reference"}


# --- What ends a build from outside -----------------------------------------------------------


def test_a_cache_that_is_removed_during_a_build_is_made_again(workshop: Workshop) -> None:
    pause = workshop.state / "wait-compile"
    pause.touch()
    loader = workshop.start()
    until(workshop.compiles)
    shutil.rmtree(workshop.cache)
    pause.unlink()
    told = finish(loader)
    assert told.get("value") == 7, told
    assert "the cache was emptied during the build" in workshop.logs[-1].read_text()
    assert Path(told["path"]).exists()


def test_a_cache_that_is_removed_again_and_again_is_told(workshop: Workshop) -> None:
    workshop.use_compiler(f"case $step in compile) rm -rf '{workshop.cache}' ;; esac")
    told = workshop.load()
    assert told["error"] == "BuildFailed"
    assert "the cache was emptied" in told["message"]


KILLED = {
    "the shell": ("kill -KILL $PPID; sleep 1", r"the shell that runs g\+\+ .* (was killed|ended)"),
    "the shell, by itself": ("kill -SEGV $PPID; sleep 1", "the shell .* (signal 11|ended before)"),
    "ninja": (
        "read -r a b c d rest < /proc/$PPID/stat; kill -KILL $d; sleep 1",
        r"ninja, which runs the compiler, was killed \(signal 9\)",
    ),
    "the compiler": ("kill -KILL $$", r"g\+\+ .* was killed \(signal 9\)"),
}


@pytest.mark.parametrize("who", KILLED)
def test_who_was_killed_is_told(workshop: Workshop, who: str) -> None:
    script, words = KILLED[who]
    workshop.use_compiler(f"case $step in compile) {script} ;; esac")
    told = workshop.load()
    assert told["error"] == "BuildFailed"
    assert re.search(words, told["message"]), told
    assert "did not end" not in told["message"]


@pytest.mark.skipif(os.geteuid() != 0, reason="has to mount")
def test_a_cache_that_forbids_execution_is_not_used(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,mode=700", "tmpfs", str(workshop.cache)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        elsewhere = {"TMPDIR": str(tmp_path / "tmp")}
        told = workshop.load(env=elsewhere)
        assert told.get("value") == 7, told
        assert f"{workshop.cache} is on a file system that forbids execution" in told["log"]
        assert told["path"].startswith(str(tmp_path / "tmp"))
        assert workshop.load(env=elsewhere)["value"] == 7
        assert workshop.compiles() == 1
    finally:
        subprocess.run(["umount", "--lazy", str(workshop.cache)], check=True)
