"""What CUDA kernels rest on, held on the host: what old targets take."""

import shutil
import subprocess

import pytest

from accel.jit import csrc_dir
from accel.jit.arch import ArchPlan, default_compute_capabilities, parse_archs
from accel.jit.cuda import defines

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (default_compute_capabilities((12, 4)), 0),
        (default_compute_capabilities((11, 8)), 0),
        ("6.0", 0),
        ("7.0;9.0", 1),
        (default_compute_capabilities((13, 0)), 1),
    ],
)
def test_targets_before_volta_are_spared_a_word_that_they_refuse(tmp_path, targets, words):
    """With ``__grid_constant__`` in a kernel, nvcc compiles for compute_70 and later only."""
    (tmp_path / "cuda_runtime.h").touch()
    (tmp_path / "kernel.cpp").write_text(
        '#include "runtime.h"\nvoid kernel(ACCEL_KERNEL_CONSTANT int);'
    )
    folders = [f"-I{folder}" for folder in (tmp_path, csrc_dir() / "include", csrc_dir() / "cuda")]
    macros = defines(ArchPlan(parse_archs(targets), "a test"))
    command = ["g++", "-E", "-P", "-D__CUDACC__", *macros, *folders, tmp_path / "kernel.cpp"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("__grid_constant__") == words
