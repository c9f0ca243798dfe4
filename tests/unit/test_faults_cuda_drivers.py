"""CUDA libraries and drivers that do not go together are told apart before a launch."""

import pytest

from accel.jit.tools import cuda_targets
from accel.nvidia import driver as nvidia
from accel.nvidia.arch_plan import ArchPlan
from accel.nvidia.driver import GPU, Driver
from accel.probe import Rejected

H100 = GPU("NVIDIA H100", "GPU-1", (9, 0), 80 << 30)
P100 = GPU("Tesla P100", "GPU-2", (6, 0), 16 << 30)
NO_DRIVER = Rejected("No usable NVIDIA driver.")


def facts(compiler, targets=("9.0+PTX",), *, extension=False):
    """What a library's manifest says of these."""
    told = {"compiler": compiler} if compiler else {}
    return {"targets": list(targets), "extension": extension, **told}


@pytest.fixture
def driver(monkeypatch):
    """Return a function that installs a driver of a CUDA release."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(*cuda_release, gpu=H100):
        found = Driver("525.60", cuda_release, (gpu,)) if cuda_release else NO_DRIVER
        monkeypatch.setattr(nvidia, "read_driver", lambda: found)

    return install


@pytest.mark.parametrize(
    ("runs", "library", "words"),
    [
        ((12, 0), facts("nvcc 12.4.131"), "kernels compiled by nvcc 12.4 take more parameters"),
        ((12, 0), facts("nvcc 13.0.88"), "driver 525.60 runs at most CUDA 12.0"),
        ((12, 0), facts("nvcc 13.0.88", extension=True), "runs at most CUDA 12.0"),
        ((12, 0), facts("nvcc 12.0.140"), ""),
        ((12, 1), facts("nvcc 12.4.131"), ""),
        # Parameters of 4 KiB, and those of a user's kernels, suit every driver of the release.
        ((12, 0), facts("nvcc 12.4.131", ("6.0", "9.0+PTX")), ""),
        ((12, 0), facts("nvcc 12.4.131", extension=True), ""),
        # Without a driver it is for elsewhere; an old record does not tell its compiler.
        ((), facts("nvcc 13.0.88"), ""),
        ((12, 0), facts(""), ""),
        ((12, 4), facts("nvcc 12.4.131", ("7.5",)), "a device here is 9.0"),
    ],
)
def test_a_library_that_the_driver_cannot_run_is_refused_in_words(driver, runs, library, words):
    driver(*runs)
    refusal = cuda_targets.cannot_run(library)
    assert (refusal is None) is not bool(words)
    assert words in (refusal or "")


def test_a_build_of_small_parameters_suits_an_older_driver(driver):
    driver(12, 0, gpu=P100)
    plan = cuda_targets.plan_targets((), (12, 4))
    assert isinstance(plan, ArchPlan)
    assert cuda_targets.defines(plan)
