"""Steps on a device: the host's library looks at their tensors, and Python if there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from device_processes import INSIDE, SIMULATED, Process, needs_torch, pytest_on
from habit_runs import run_machine
from kernels_on_host import library
from torch import nn

from accel import optim
from accel.cli.main import main
from accel.ops.optimizers.kernel import Kernel, kernel_for
from accel.ops.optimizers.prepared import host_watch, native_watch
from accel.ops.optimizers.reference.adam import ADAM

on_the_device = needs_torch
asked_natively = pytest.mark.skipif(
    isinstance(native_watch.python_api(), str), reason="this torch cannot be asked natively"
)
COUNT = 40


@on_the_device
def test_on_a_device(process: Process) -> None:
    process(*pytest_on(INSIDE / "test_faults_watch.py"))


@asked_natively
def test_habits_under_the_watch_that_devices_have(tmp_path: Path) -> None:
    run_machine(tmp_path, "--examples", "30", "--watch", "host", "--rungs", "native")


class OfCuda(optim.FusedAdam):
    """`FusedAdam` by the CUDA kernels, which are built for the host."""

    def kernel(self, device: torch.device) -> Kernel:
        """Return that kernel."""
        return kernel_for(ADAM, library("adam", host=True), "cpu")


@pytest.fixture
def no_watch_yet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the library be asked for anew, and again after the test."""
    for name in ("_found", "_refused"):
        monkeypatch.setattr(host_watch, name, [])
    yield


def parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(index % 7, 3)) for index in range(COUNT)]


def train(optimizer: Any, seeds: range) -> list[bool]:
    """Step, and return by step whether a native watch served."""
    served = []
    for seed in seeds:
        torch.manual_seed(seed)
        for param in optimizer.param_groups[0]["params"]:
            param.grad = torch.randn_like(param)
        prepared = optimizer._prepared.get(0)
        before = 0 if prepared is None else prepared._served
        optimizer.step()
        served.append(optimizer._prepared[0]._served > before)
    return served


@asked_natively
def test_a_plan_of_cuda_kernels_is_watched_natively() -> None:
    params, others = parameters(), parameters()
    optimizer, other = OfCuda(params, lr=0.01), optim.FusedAdam(others, lr=0.01)
    assert train(optimizer, range(5)) == [False, False, True, True, True]
    train(other, range(5))
    torch.testing.assert_close(params, others, rtol=0, atol=0)
    state = optimizer.state[params[9]]
    state["exp_avg"] = state["exp_avg"].clone()
    assert train(optimizer, range(5, 8)) == [False, True, True]
    train(other, range(5, 8))
    torch.testing.assert_close(params, others, rtol=0, atol=0)


def compiler(folder: Path, extra: str) -> str:
    path = folder / "some c++"
    path.write_text(f'#!/bin/sh\n{extra}\nexec {shutil.which("g++")} "$@"\n')
    path.chmod(0o755)
    return f"'{path}'"


def explained() -> list[str]:
    """Return what `accel explain` notes of an op on CUDA devices."""
    from click.testing import CliRunner

    said = CliRunner().invoke(main, ["explain", "fused_adam", "--accelerator", "cuda", "--json"])
    notes: list[str] = json.loads(said.stdout)["notes"]
    return notes


@asked_natively
def test_the_watch_is_explained(cache_dir: Path) -> None:
    assert any("a library of the host checks every tensor" in note for note in explained())


@asked_natively
def test_without_a_compiler_python_watches(
    no_watch_yet: None, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = library("adam", host=True)
    monkeypatch.setattr(OfCuda, "kernel", lambda *_: kernel_for(ADAM, kernel, "cpu"))
    monkeypatch.setenv("CXX", "/bin/false")
    params, others = parameters(), parameters()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not any(train(OfCuda(params, lr=0.01), range(5)))
    with monkeypatch.context() as patch:
        patch.delenv("CXX")
        train(optim.FusedAdam(others, lr=0.01), range(5))
    torch.testing.assert_close(params, others, rtol=0, atol=0)
    [note] = [note for note in explained() if "Python checks every tensor" in note]
    assert "/bin/false" in note


@asked_natively
def test_a_build_that_fails_is_told_once(
    no_watch_yet: None, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = library("adam", host=True)
    monkeypatch.setattr(OfCuda, "kernel", lambda *_: kernel_for(ADAM, kernel, "cpu"))
    fails = 'case " $* " in *watch.cpp*) echo "watch.cpp:3: error: out of luck" >&2; exit 1;; esac'
    monkeypatch.setenv("CXX", compiler(tmp_path, fails))
    with pytest.warns(RuntimeWarning, match="out of luck") as told:
        assert not any(train(OfCuda(parameters(), lr=0.01), range(4)))
        assert not any(train(OfCuda(parameters(), lr=0.01), range(4)))
    assert len(told) == 1
    notes = explained()
    assert "Python checks every tensor" in notes[0]
    assert "Last failed load of that library" in notes[1]
    assert all("out of luck" in note for note in notes)
    # Later, when the compiler does it.
    monkeypatch.setenv("CXX", compiler(tmp_path, ""))
    monkeypatch.setattr(host_watch, "_AGAIN_S", 0.0)
    assert train(OfCuda(parameters(), lr=0.01), range(3)) == [False, False, True]


STEPS = """
import torch
from accel.ops.optimizers.prepared import host_watch
import warnings
warnings.simplefilter("error")
assert host_watch.host_watcher() is not None
print(host_watch.host_watcher()._name)
"""


@asked_natively
def test_a_folder_of_prebuilt_ops_has_the_watch(tmp_path: Path) -> None:
    from accel.jit.build.prebuilt import build_prebuilt

    folder = tmp_path / "prebuilt"
    build_prebuilt(host_watch.recipe(), folder)
    variables = {"ACCEL_PREBUILT_DIR": str(folder), "CXX": "/bin/false"}
    done = subprocess.run(
        [sys.executable, "-c", STEPS],
        env={"ACCEL_CACHE_DIR": str(tmp_path / "empty"), **variables},
        cwd=SIMULATED.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_builds_for_a_device_bring_the_watch() -> None:
    from accel.cli.engine import _recipes

    for backend, ops in (("cuda", ()), ("cuda", ("fused_adam",))):
        built = {recipe.name: names for names, recipe in _recipes(ops, backend, "")}
        assert set(ops or ["fused_adam", "fused_lamb"]) <= set(built["watch"])
    assert "watch" not in {recipe.name for _, recipe in _recipes((), "cpu", "")}
    assert "watch" not in {recipe.name for _, recipe in _recipes(("cpu_adam",), "cuda", "")}
