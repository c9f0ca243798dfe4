"""Vendors' devices: an importable package is no device, and a vendor's own strategy wins."""

import sys

import pytest
import torch

import accel
from accel.base import Accelerator
from accel.errors import BackendUnavailable
from accel.vendors import MPSAccelerator, NPUAccelerator, SUPAAccelerator


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that installs a vendor's package with the given source."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)

    yield install
    for name in ("torch_npu", "torch_br"):
        sys.modules.pop(name, None)
    if hasattr(torch, "npu"):
        del torch.npu


NO_DEVICE = """
import torch, types
torch.npu = types.SimpleNamespace(is_available=lambda: False, device_count=lambda: 0)
"""


def test_a_package_without_a_device_is_not_chosen(package):
    package("torch_npu", NO_DEVICE)
    verdict = NPUAccelerator().probe()
    assert "torch_npu finds no device" in verdict.reason
    assert "Huawei" in verdict.fix
    accel.set_accelerator(None)
    assert accel.get_accelerator().name != "npu"
    with pytest.raises(BackendUnavailable, match="finds no device"):
        accel.set_accelerator("npu")


def test_a_package_that_fails_is_a_rejection(package):
    package("torch_npu", "raise OSError('libascendcl.so: cannot open shared object file')")
    verdict = NPUAccelerator().probe()
    assert "libascendcl" in verdict.reason
    assert "for this torch" in verdict.fix


def test_a_package_that_adds_no_device_is_a_rejection(package):
    package("torch_br", "")
    assert "torch_br finds no device" in SUPAAccelerator().probe().reason


def test_a_package_that_is_absent_is_named():
    assert "torch_supa or torch_br is not installed" in SUPAAccelerator().probe().reason


class OwnNPU(Accelerator):
    name = "npu"

    def is_available(self) -> bool:
        return False


def test_a_vendors_own_strategy_wins(monkeypatch):
    from accel import registry

    monkeypatch.setattr(registry, "_registered", {})
    accel.register_accelerator("npu", f"{__name__}:OwnNPU")
    assert [one.origin for one in accel.candidates() if one.name == "npu"] == ["registered"]


def test_every_vendor_is_a_candidate_below_the_devices_that_have_kernels_here():
    priorities = {one.name: one.priority for one in accel.candidates()}
    for name in ("mps", "npu", "mlu", "musa", "sdaa", "supa"):
        assert priorities["cpu"] < priorities[name] < priorities["hpu"]


def test_variables_and_collectives_are_the_vendors():
    environment = {}
    NPUAccelerator().set_visible_devices_envs(environment, [2, 3])
    assert environment == {"ASCEND_RT_VISIBLE_DEVICES": "2,3"}
    assert NPUAccelerator().communication_backend_name() == "hccl"


@pytest.mark.skipif(sys.platform == "darwin", reason="there mps may be usable")
def test_mps_needs_a_mac():
    assert "macOS" in MPSAccelerator().probe().reason
    for member in (
        "synchronize",
        "current_allocated_memory",
        "driver_allocated_memory",
        "recommended_max_memory",
        "get_rng_state",
        "set_rng_state",
        "manual_seed",
        "_get_default_mps_generator",
        "empty_cache",
        "Event",
    ):
        assert hasattr(torch.mps, member)
