"""What CUDA kernels rest on, held on the host: what old targets take."""

import shutil
import subprocess

import pytest

from accel.builders.cuda import FusedLionBuilder
from accel.jit import csrc_dir
from accel.jit.build.prebuilt import build_prebuilt
from accel.jit.cache import store
from accel.jit.recipe import take_fit
from accel.jit.tools import nvcc
from accel.jit.tools.cuda_targets import defines
from accel.nvidia import driver
from accel.nvidia.arch_plan import ArchPlan
from accel.nvidia.archs import default_compute_capabilities, parse_archs
from accel.probe import Rejected

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


@pytest.mark.skipif(isinstance(nvcc.find(), Rejected), reason="needs nvcc")
def test_a_prebuilt_of_a_newer_nvcc_than_the_driver_is_not_loaded(cache_dir, tmp_path, monkeypatch):
    """It would fail at its first launch, by a code of the runtime's."""
    recipe = FusedLionBuilder().recipe()
    monkeypatch.setattr(driver, "read_driver", lambda: Rejected("none"))
    build_prebuilt(recipe.replace(targets=("9.0",)), tmp_path / "out")
    known = driver.GPU("NVIDIA H100", "GPU-1", (9, 0), 80 << 30)
    for release, words in (((12, 0), "runs at most CUDA 12.0"), ((13, 3), "")):
        old = driver.Driver("525.60", release, (known,))
        monkeypatch.setattr(driver, "read_driver", lambda old=old: old)
        found = store.find_fitting(recipe, take_fit(recipe), tmp_path / "out", private=False)
        assert isinstance(found, Rejected) is bool(words), found
        assert words in str(found)
