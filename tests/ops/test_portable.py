"""Triton kernels: run in Triton's interpreter, and compiled for devices that are not here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from device_checks import SUBJECTS, DeviceChecks, Step, Stepper
from device_reductions import FAMILIES, Adam8bitChecks, LambChecks

from accel.builders import cuda
from accel.builders.base import declared
from accel.errors import OpUnavailable
from accel.ops.kernel import kernel_for
from accel.ops.portable import KERNELS, Portable, probe_portable
from accel.ops.table import PointerTable
from accel.probe import Accepted, Rejected

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed: the extra portable-test"
)


@pytest.fixture(scope="module")
def stepper() -> Iterator[Stepper]:
    """Steps in Triton's interpreter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")

        def choose(name: str) -> Step:
            return kernel_for(FAMILIES[name], Portable(), "cpu").run

        yield choose


@needs_triton
@pytest.mark.portable
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy tells of every NaN and overflow
class TestInterpreted(DeviceChecks, LambChecks, Adam8bitChecks):
    """The kernels' arithmetic and addresses."""

    size = 1501
    sizes = (1, 5, 16, 1023, 1024, 1025, 2048)


@needs_triton
@pytest.mark.portable
def test_compiled_ahead_of_time(tmp_path: Path) -> None:
    script = Path(__file__).parent / "compile_portable.py"
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    targets = ["cuda:80:32", "cuda:90:32", "hip:gfx942:64"]
    done = subprocess.run(
        [sys.executable, str(script), *targets],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    assert [*sizes] == targets
    for binaries in sizes.values():
        steps = {name.removeprefix("accel_") for name in KERNELS}
        assert steps - {"lamb_step"} < {*binaries}
        assert min(binaries.values()) > 500


def test_who_may_use_it() -> None:
    builder = cuda.FusedAdamBuilder()
    assert isinstance(probe_portable("cuda", "accel_sort_step"), Rejected)
    for _, kind in declared(cuda.__name__):
        assert kind.backend != "cuda" or kind.entry_point in KERNELS, kind.__name__
    assert "not used on cpu" in str(probe_portable("cpu", builder.entry_point))
    verdict = builder.portable()
    if find_spec("triton") is None:
        assert isinstance(verdict, Rejected)
        assert "not installed" in verdict.reason
    else:
        assert isinstance(verdict, Accepted)


@pytest.fixture
def no_nvcc(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> None:
    """A machine without a CUDA compiler."""
    monkeypatch.setenv("NVCC", "/nowhere/nvcc")


@needs_triton
@pytest.mark.portable
def test_a_machine_without_nvcc_gets_it_silently(
    no_nvcc: None, stepper: Stepper, monkeypatch: pytest.MonkeyPatch
) -> None:
    op = cuda.FusedAdamBuilder().load()
    assert (op.implementation, op.digest) == ("portable", "triton")
    assert op.path.is_dir()
    assert cuda.FusedAdamBuilder().load() is op
    monkeypatch.setenv("ACCEL_OPS", "native")
    with pytest.raises(OpUnavailable, match="nvcc"):
        cuda.FusedAdamBuilder().load()
    monkeypatch.setenv("ACCEL_OPS", "reference")
    assert cuda.FusedAdamBuilder().load().implementation == "reference"


@needs_triton
@pytest.mark.portable
def test_tables_follow_memory(stepper: Stepper) -> None:
    from accel.ops.portable import table

    states = ("exp_avgs", "exp_avg_sqs")
    host = torch.device("cpu")
    for _ in range(table._KEPT + 3):
        memory = torch.zeros(4, 40)
        parts = [[part] for part in memory.split(1)]
        args = SUBJECTS["adam"].family.args()
        pointers = PointerTable(dict(zip(("params", "grads", *states), parts, strict=True)))
        pointers.fill(args)
        made = table.device_table(args, states, host)
        assert made is table.device_table(args, states, host)
        assert made.rows[1, 2] == memory.data_ptr()
    assert len(table._kept) <= table._KEPT
