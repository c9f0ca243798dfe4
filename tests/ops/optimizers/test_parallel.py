"""Threads: as many as are ours, torch's setting untouched, one after a fork, one OpenMP runtime."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adam_cases import Case

from accel.jit.tools.compilers import find_cxx
from accel.ops.optimizers.adam import FusedAdam
from accel.ops.threads import cpu_threads

NUMBERS = (1e-2, 0.9, 0.999, 1e-8, 1, 1, True, 0.1)


def test_share_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cpu_threads() == cpus
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cpu_threads() == max(1, cpus // 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4096")
    assert cpu_threads() == 1
    monkeypatch.setenv("ACCEL_NUM_THREADS", "7")
    assert cpu_threads() == 7
    monkeypatch.setenv("ACCEL_NUM_THREADS", "0")
    with pytest.raises(ValueError, match="ACCEL_NUM_THREADS"):
        cpu_threads()


@pytest.mark.parametrize("threads", ["1", "2", "3", "16"])
def test_result_does_not_depend_on_threads(
    fused_adam: FusedAdam, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [Case.random((size,), seed=size) for size in (100_003, 1, 17, 33_333)]
    lists = [[getattr(case, field) for case in cases]
             for field in ("grad", "param", "exp_avg", "exp_avg_sq")]  # fmt: skip
    reference = [[tensor.clone() for tensor in column] for column in lists]
    FusedAdam().multi_tensor_adam(1, None, reference, *NUMBERS)
    monkeypatch.setenv("ACCEL_NUM_THREADS", threads)
    before = torch.get_num_threads()
    fused_adam.multi_tensor_adam(1, None, lists, *NUMBERS)
    assert torch.get_num_threads() == before
    for column, expected in zip(lists, reference, strict=True):
        assert all(map(torch.equal, column, expected))


SCRIPT = """
import os, sys, threading, torch
from accel.builders import cpu

def tasks():
    return len(os.listdir("/proc/self/task"))

def step(op):
    tensors = [torch.rand(500_000) for _ in range(4)]
    op.multi_tensor_adam(1, None, [[t] for t in tensors], 1e-2, .9, .999, 1e-8, 1, 1, True, .1)
    return tensors[1]
"""


def run(body: str, **environment: str) -> str:
    root = Path(__file__).parents[3]
    inherited = {**os.environ, "PYTHONPATH": str(root), **environment}
    done = subprocess.run([sys.executable, "-c", SCRIPT + body], env=inherited, timeout=120,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_two_threads_under_a_launchers_setting(session_cache: Path) -> None:
    found = run(
        "op = cpu.FusedAdamBuilder().jit_load(); before = tasks(); step(op)\n"
        "print(tasks() - before, torch.get_num_threads())",
        OMP_NUM_THREADS="1",
    )
    assert found.split() == [str(len(os.sched_getaffinity(0)) - 1), "1"]


def made_by_gcc() -> bool:
    return getattr(find_cxx(), "kind", "") == "gcc"


def test_one_pool_with_torch(session_cache: Path) -> None:
    if not made_by_gcc():
        pytest.skip("torch's OpenMP is GCC's")
    found = run(
        "torch.set_num_threads(2); torch.rand(10_000_000).exp()\n"
        "op = cpu.FusedAdamBuilder().jit_load(); before = tasks(); step(op)\n"
        "print(tasks() - before)",
        ACCEL_NUM_THREADS="2",
    )
    assert found.strip() == "0"


FORK = """
import signal
def child_works(op):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        step(op())
        os._exit(0 if tasks() == 1 else 3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def test_child_of_a_process_that_ran_threads(session_cache: Path) -> None:
    found = run(
        FORK + "op = cpu.FusedAdamBuilder().jit_load(); step(op); print(child_works(lambda: op))"
    )
    assert found.strip() == "0"


def test_child_that_loads_the_library_itself(session_cache: Path) -> None:
    """torch's own threads ran in the parent; the library comes only in the child."""
    found = run(
        FORK + "torch.set_num_threads(2); torch.rand(10_000_000).exp()\n"
        "print(child_works(lambda: cpu.FusedAdamBuilder().jit_load()))"
    )
    assert found.strip() == "0"


def test_no_library_of_torch_or_python(fused_adam: FusedAdam) -> None:
    found = subprocess.run(["ldd", fused_adam.path], capture_output=True, text=True, check=True)
    names = {line.split()[0].rpartition("/")[2] for line in found.stdout.splitlines()}
    assert ("libgomp.so.1" if made_by_gcc() else "libomp.so.5") in names
    assert not [name for name in names if re.match(r"lib(torch|c10|python)", name)]
