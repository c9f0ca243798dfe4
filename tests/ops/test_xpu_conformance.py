"""Every op that has SYCL kernels against the conformance suite, on the SYCL CPU device."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
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


@pytest.mark.xpu
def test_kernels_need_neither_double_nor_half(sycl_device: SyclDevice, tmp_path: Path) -> None:
    """Some devices have none of them, and cannot run a program that names them."""
    script = Path(__file__).parents[1] / "support/sycl_images.py"
    variables = {**os.environ, "SYCL_DUMP_IMAGES": "1"}
    subprocess.run([sys.executable, script, *WITH_KERNELS], cwd=tmp_path, env=variables, check=True)
    images = [*tmp_path.glob("*.spv")]
    assert len(images) >= len(WITH_KERNELS)
    for image in images:
        assert float_sizes(image.read_bytes()) == {32}, image.name


def float_sizes(spirv: bytes) -> set[int]:
    """Return the bits of the floating-point types that a SPIR-V module declares."""
    words = struct.unpack(f"<{len(spirv) // 4}I", spirv)
    assert words[0] == 0x07230203
    found, at = set(), 5
    while at < len(words):
        length, operation = words[at] >> 16, words[at] & 0xFFFF
        if operation == 22:  # OpTypeFloat: its result, its bits
            found.add(words[at + 2])
        at += length
    return found


def test_each_op_of_tensors_has_kernels_but_those_that_compute_nothing() -> None:
    """Views, and tokens that are moved, are torch's own operators on every device."""
    computed = {
        name for name, target in DECLARED.items() if target.split(".")[2] not in ("io", "utils")
    }
    assert computed - {*WITH_KERNELS} == {"cpu_adam", "cpu_lion", "cpu_adagrad", "random_ltd"}
