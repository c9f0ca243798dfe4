"""What a CUDA build is for, from facts given as data."""

import pytest

from accel.jit.tools import cuda_targets
from accel.nvidia import driver as nvidia
from accel.nvidia.arch_plan import ArchPlan
from accel.nvidia.archs import parse_archs
from accel.nvidia.driver import GPU, Driver
from accel.probe import Rejected
from accel.torch_build import TorchBuild

H100 = GPU("NVIDIA H100", "GPU-1", (9, 0), 80 << 30)
NO_DRIVER = Rejected("No usable NVIDIA driver.")


@pytest.fixture
def driver(monkeypatch):
    """Return a function that installs a driver."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda found: monkeypatch.setattr(nvidia, "read_driver", lambda: found)


@pytest.mark.parametrize(
    ("wanted", "listed", "found", "targets"),
    [
        (("8.0", "9.0"), "7.5", NO_DRIVER, "8.0;9.0+PTX"),
        ((), "7.5", NO_DRIVER, "7.5+PTX"),
        ((), "", Driver("580", (13, 0), (H100,)), "9.0+PTX"),
        ((), "", NO_DRIVER, "7.5;8.0;9.0;10.0;11.0;12.0+PTX"),
    ],
)
def test_the_request_then_the_variable_then_the_devices_then_the_defaults(
    driver, monkeypatch, wanted, listed, found, targets
):
    driver(found)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", listed)
    plan = cuda_targets.plan_targets(wanted, (13, 0))
    assert isinstance(plan, ArchPlan)
    assert str(plan) == targets


def test_the_origin_of_a_bad_list_is_named(driver, monkeypatch):
    driver(NO_DRIVER)
    assert "--arch='sm_90'" in cuda_targets.plan_targets(("sm_90",), (13, 0)).reason
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "sm_90")
    assert "TORCH_CUDA_ARCH_LIST='sm_90'" in cuda_targets.plan_targets((), (13, 0)).reason


@pytest.mark.parametrize(
    ("toolkit", "runs", "words"),
    [
        ((13, 0), (12, 8), "driver 1.2 runs at most CUDA 12.8"),
        ((12, 4), (12, 0), "more parameters"),
        ((12, 4), (12, 1), ""),
        ((12, 0), (12, 0), ""),
    ],
)
def test_a_driver_that_cannot_run_the_result_rejects_a_build_for_this_machine(
    driver, toolkit, runs, words
):
    driver(Driver("1.2", runs, (H100,)))
    plan = cuda_targets.plan_targets((), toolkit)
    assert isinstance(plan, Rejected) is bool(words)
    if words:
        assert words in plan.reason
        assert isinstance(cuda_targets.plan_targets(("9.0",), toolkit), ArchPlan)


@pytest.mark.parametrize(
    ("found", "targets", "lacks"),
    [
        (NO_DRIVER, ("8.0",), False),
        (Driver("1", (13, 0), (H100,)), ("8.0", "9.0"), False),
        (Driver("1", (13, 0), (H100,)), ("8.0+PTX",), False),
        (Driver("1", (13, 0), (H100,)), ("8.0", "10.0+PTX"), True),
        (Driver("1", (13, 0), (H100,)), ("nonsense",), True),
    ],
)
def test_a_library_for_other_devices_is_told_apart(driver, found, targets, lacks):
    driver(found)
    assert bool(cuda_targets.missing_device(targets)) is lacks


def test_old_targets_get_small_parameters():
    assert cuda_targets.defines(ArchPlan(parse_archs("6.1;9.0"), "")) == (
        "-DACCEL_SMALL_PARAMETERS",
    )
    assert cuda_targets.defines(ArchPlan(parse_archs("7.0;9.0"), "")) == ()


def test_a_toolkit_that_is_not_torchs_is_noted_and_no_more(monkeypatch):
    monkeypatch.setattr(cuda_targets, "torch_build", lambda: TorchBuild("2.13", "12.8", ""))
    assert "12.8" in cuda_targets.torch_note((13, 0))
    assert cuda_targets.torch_note((12, 8)) == ""
