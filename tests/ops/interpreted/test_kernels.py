"""Triton kernels in Triton's interpreter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from device_checks import SUBJECTS, DeviceChecks, Step, Stepper
from device_random import RandomChecks
from device_reductions import Adam8bitChecks, LambChecks, Lion8bitChecks
from family_cases import FAMILIES

from accel.base import Accelerator
from accel.builders import cuda
from accel.errors import OpUnavailable
from accel.ops.optimizers.kernel import kernel_for
from accel.ops.optimizers.prepared.table import PointerTable
from accel.ops.optimizers.triton import Portable


@pytest.fixture(scope="module")
def stepper() -> Stepper:
    """Steps in Triton's interpreter."""
    assert os.environ["TRITON_INTERPRET"] == "1"

    def choose(name: str) -> Step:
        return kernel_for(FAMILIES[name], Portable(), "cpu").run

    return choose


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy tells of every NaN and overflow
class TestInterpreted(DeviceChecks, LambChecks, Adam8bitChecks, Lion8bitChecks, RandomChecks):
    """The kernels' arithmetic and addresses."""

    size = 1501
    sizes = (1, 5, 16, 1023, 1024, 1025, 2048)


@pytest.fixture
def no_nvcc(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> None:
    """A machine without a CUDA compiler."""
    monkeypatch.setenv("NVCC", "/nowhere/nvcc")


class Stranger(Accelerator):
    """Somebody's devices, for which Triton compiles; their tensors are the interpreter's."""

    name = "cpu"
    uses_triton = True

    def is_available(self) -> bool:
        """Return ``True``."""
        return True


def test_a_third_partys_devices_step_by_it() -> None:
    op = Stranger().get_op_builder("FusedAdamBuilder")().load()
    assert (op.implementation, op.backend) == ("portable", "cpu")
    ours, theirs = torch.ones(5), torch.nn.Parameter(torch.ones(5))
    theirs.grad = torch.full((5,), 0.5)
    torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.01).step()
    lists = [[theirs.grad], [ours], [torch.zeros(5)], [torch.zeros(5)]]
    op.multi_tensor_adam(2048, None, lists, 0.1, 0.9, 0.999, 1e-8, 1, 1, True, 0.01)
    torch.testing.assert_close(ours, theirs.detach())


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


def test_tables_follow_memory(stepper: Stepper) -> None:
    from accel.ops.optimizers.triton import table

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
        assert made.rows[1, 3] == memory.data_ptr()
    assert len(table._kept) <= table._KEPT
