"""Every op that has SYCL kernels against the conformance suite, on the SYCL CPU device."""

from __future__ import annotations

from typing import Any

import pytest
from sycl_device import SyclDevice

from accel.builders.convention import DECLARED, HOST, optimizers
from accel.cpu import CPUAccelerator
from accel.jit import csrc_dir
from accel.testing import OpConformance
from accel.testing.spec import OpSpec

WITH_KERNELS = tuple(
    name
    for name, target in DECLARED.items()
    if not name.startswith(HOST)
    and (
        csrc_dir() / "xpu" / target.split(".")[2] / f"{optimizers().get(name, name)}.cpp"
    ).is_file()
)


@pytest.mark.xpu
class TestOnTheSyclDevice(OpConformance):
    """Tensors are the host's, which this device shares."""

    accelerator = CPUAccelerator
    ops = WITH_KERNELS
    test_results_of_the_reference = None  # it runs no kernel

    @pytest.fixture(autouse=True)
    def on_device(self, sycl_device: SyclDevice) -> None:
        self._device = sycl_device

    def _load(self, spec: OpSpec, *, reference: bool = False) -> Any:
        op = self._device.op(spec.op)
        assert op.implementation == "jit"
        return op


def test_each_op_of_tensors_has_kernels_but_those_that_compute_nothing() -> None:
    """Views, and tokens that are moved, are torch's own operators on every device."""
    computed = {
        name for name, target in DECLARED.items() if target.split(".")[2] not in ("io", "utils")
    }
    assert computed - {*WITH_KERNELS} == {"cpu_adam", "cpu_lion", "cpu_adagrad", "random_ltd"}
