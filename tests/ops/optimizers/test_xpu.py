"""SYCL kernels on the SYCL CPU device."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from device_checks import FLOATS, SUBJECTS, DeviceChecks, Step, Stepper, copied, lists
from device_random import RandomChecks
from device_reductions import Adam8bitChecks, LambChecks, Lion8bitChecks
from family_cases import CASES, FAMILIES, tensors_of
from sycl_device import SyclDevice

from accel.builders import xpu
from accel.builders.convention import DECLARED
from accel.builders.kinds import SYCLOpBuilder
from accel.builders.lookup import find_builder
from accel.errors import AccelError
from accel.ops.optimizers.kernel import kernel_for
from accel.ops.optimizers.lists import TensorLists

pytestmark = pytest.mark.xpu
SIZES = [(4096,), (4097,), (17, 3), (255,), (9001,), (0,), ()]
BUILDERS = [
    found
    for name in DECLARED
    if issubclass(found := find_builder(name, xpu.__name__, "xpu"), SYCLOpBuilder)
]


@pytest.fixture(scope="module")
def stepper(sycl_device: SyclDevice) -> Stepper:
    """Steps on the SYCL CPU device."""

    def choose(name: str) -> Step:
        kernel = kernel_for(FAMILIES[name], sycl_device.library(name), "cpu")

        def step(tensors: TensorLists, hyper: Any) -> None:
            kernel.run(tensors, hyper)
            sycl_device.wait()

        return step

    return choose


class TestKernels(DeviceChecks, LambChecks, Adam8bitChecks, Lion8bitChecks, RandomChecks):
    """The kernels' arithmetic and addresses."""

    exact = True
    sizes = (*DeviceChecks.sizes, 40_000)


@pytest.mark.parametrize("name", [name for name in CASES if name != "lamb"])
def test_steps_have_the_cpus_bits(stepper: Stepper, name: str) -> None:
    """If the host knows the step and the rate; LAMB's norms are added up in another order."""
    case = CASES[name]
    step, native = stepper(name), case.builder().jit_load().kernel
    turns = zip(itertools.product(FLOATS, case.options, (False, True)), itertools.count())
    for (param, options, extreme), seed in turns:
        rounding = ("nearest", "stochastic")[seed % 2 and param != torch.float32]
        hyper = case.hyper(**options, rounding=rounding, seed=seed, grad_scale=torch.tensor(3.0))
        state = param if seed % 3 and not case.reference.family.coded else torch.float32
        ours, theirs = (case.lists(SIZES, param, state=state, seed=seed) for _ in range(2))
        for given in (ours, theirs) if extreme else ():
            for grad, size in zip(given.grads, (0, 1e-30, 1e-20, 1e20, 1e30), strict=False):
                grad.copy_(grad.double() * size)
        step(ours, hyper)
        native.run(theirs, hyper)
        for left, right in zip(tensors_of(ours), tensors_of(theirs), strict=True):
            assert torch.equal(left.isnan(), right.isnan()) if left.is_floating_point() else True
            assert torch.equal(*(one.nan_to_num(7.0) for one in (left, right)))


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_builders_load(sycl_device: SyclDevice, builder: type[SYCLOpBuilder]) -> None:
    op = builder().load()
    assert (op.implementation, op.backend) == ("jit", "xpu")
    assert builder().load() is op


def test_a_library_is_one_file_that_needs_libsycl_alone(sycl_device: SyclDevice) -> None:
    path = sycl_device.library("adam").path
    assert {file.suffix for file in path.parent.iterdir()} == {".so", ".json", ".log"}
    shown = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
    needed = [line.split("[")[1][:-1] for line in shown.stdout.splitlines() if "NEEDED" in line]
    assert next(name for name in needed if "sycl" in name).startswith("libsycl.so.")
    assert not any(word in name for name in needed for word in ("torch", "c10", "python"))
    assert "RUNPATH" not in shown.stdout


def test_an_installation_elsewhere_has_the_same_digest(
    sycl_device: SyclDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accel.jit import make_plan
    from accel.jit.tools import sycl

    builder = xpu.FusedAdamBuilder()
    here = make_plan(builder.recipe())
    runtime = sycl.find_sycl()
    assert isinstance(runtime, sycl.SyclRuntime)
    (tmp_path / "include").symlink_to(runtime.include)
    (tmp_path / "lib").symlink_to(runtime.library.parent)
    moved = sycl.SyclRuntime(
        runtime.version, tmp_path / "include", tmp_path / "lib" / runtime.library.name
    )
    monkeypatch.setattr(sycl, "find_sycl", lambda: moved)
    there = make_plan(builder.recipe())
    assert here and there
    assert here.digest == there.digest
    assert here.commands != there.commands


def test_a_queue_out_of_order_is_refused(sycl_device: SyclDevice, stepper: Stepper) -> None:
    step, hyper = stepper("adam"), SUBJECTS["adam"].hyper
    kernel = kernel_for(SUBJECTS["adam"].family, sycl_device.library("adam"), "cpu")
    given = lists("adam", 10)
    before = copied(given)
    ordered, sycl_device.queue = sycl_device.queue, sycl_device.unordered
    try:
        with pytest.raises(AccelError, match="out of order"):
            kernel.run(given, hyper)
        sycl_device.queue = None
        with pytest.raises(AccelError, match="null pointer"):
            kernel.run(given, hyper)
    finally:
        sycl_device.queue = ordered
    assert torch.equal(given.params[0], before.params[0])
    step(given, hyper)
    assert not torch.equal(given.params[0], before.params[0])
