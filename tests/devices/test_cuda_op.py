"""The cuda backend's ops where there is no GPU: what is refused, what falls back, and why."""

import re

import pytest
import torch

from accel.builders.cuda import FusedAdamBuilder
from accel.errors import AccelError, BuildFailed, OpUnavailable
from accel.jit.tools import nvcc
from accel.ops import abi
from accel.ops.native import NativeLibrary
from accel.ops.optimizers.reference.adam import ADAM
from accel.probe import Rejected

needs_nvcc = pytest.mark.skipif(isinstance(nvcc.find(), Rejected), reason="needs nvcc")


def step(op, *lists):
    op.multi_tensor_adam(1024, None, [*lists], 1e-3, 0.9, 0.999, 1e-8, 1, 1, 1, 0.0)


@pytest.fixture
def broken_nvcc(tmp_path, monkeypatch):
    """Install an nvcc that says who it is and fails on every source."""
    command = tmp_path / "nvcc"
    command.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --version ] && echo "release 12.4, V12.4.131" && exit 0\n'
        '[ "$1" = --list-gpu-arch ] && echo compute_90 && exit 0\n'
        'echo "nvcc fatal   : Unsupported host compiler" >&2; exit 1\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("NVCC", str(command))


def test_the_reference_runs_on_meta_tensors(monkeypatch):
    monkeypatch.setenv("ACCEL_OPS", "reference")
    op = FusedAdamBuilder().load()
    assert op.implementation == "reference"
    tensors = [[torch.ones(3, 4, device="meta")] for _ in range(4)]
    step(op, *tensors)
    assert tensors[1][0].shape == (3, 4)


@needs_nvcc
@pytest.mark.timeout(300)
def test_tensors_on_another_device_are_refused_by_name(monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    op = FusedAdamBuilder().load()
    assert op.implementation == "jit"
    for device in ("cpu", "meta"):
        tensors = [[torch.ones(4, device=device)] for _ in range(4)]
        with pytest.raises(ValueError, match=rf"params\[0\] is on {device}.*'cuda'"):
            step(op, *tensors)


def test_without_nvcc_the_reference_is_taken_and_the_reason_said_once(monkeypatch, cache_dir):
    monkeypatch.setenv("NVCC", "/no/such/nvcc")
    # Torch for CUDA brings Triton, and with it the rung in between.
    monkeypatch.setattr(FusedAdamBuilder, "portable", lambda _: Rejected("no Triton here."))
    with pytest.warns(RuntimeWarning, match="/no/such/nvcc"):
        assert FusedAdamBuilder().load().implementation == "reference"
    monkeypatch.setenv("ACCEL_OPS", "native")
    with pytest.raises(OpUnavailable, match="/no/such/nvcc"):
        FusedAdamBuilder().load()
    jit = dict(FusedAdamBuilder().rungs())["jit"]
    assert isinstance(jit, Rejected)
    assert "NVCC" in jit.fix


def test_an_nvcc_that_fails_is_a_failed_build_with_its_words(broken_nvcc, monkeypatch, cache_dir):
    monkeypatch.setenv("ACCEL_OPS", "native")
    with pytest.raises(BuildFailed) as caught:
        FusedAdamBuilder().load()
    assert "Unsupported host compiler" in caught.value.first_error
    assert caught.value.log_path is not None


def test_an_architecture_that_nvcc_lacks_is_said_in_the_rung(broken_nvcc, monkeypatch, cache_dir):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "12.0")
    jit = dict(FusedAdamBuilder().rungs())["jit"]
    assert isinstance(jit, Rejected)
    assert re.search(r"asks for 12\.0; nvcc 12\.4 compiles for 9\.0", jit.reason)


class _Library:
    """A library that answers every launch with one code, and names it as the runtime would."""

    path = "/cache/adam.so"

    class handle:
        def accel_abi_version():
            return abi.ABI_VERSION

        def accel_status_text(status):
            return {abi.DEVICE_ERROR + 2: b"cudaErrorMemoryAllocation"}[status]

        def accel_adam_step(args, stream):
            return abi.DEVICE_ERROR + 2


def test_a_launch_without_memory_is_an_exception_with_cudas_name_for_it():
    step = NativeLibrary(_Library, "accel_adam_step")
    with pytest.raises(AccelError, match=r"accel_adam_step.*1002: cudaErrorMemoryAllocation"):
        step(ADAM.args(), torch.device("cpu"))
