"""Apple's and the vendors' devices against the contract; without one, what can be asked then."""

import pytest

from accel.testing import run

NAMES = ("NPU", "MLU", "MUSA", "SDAA", "SUPA", "MPS")
IN_A_FRESH_PROCESS = ("test_import", "test_making", "test_probing")


@pytest.mark.parametrize("name", NAMES)
def test_a_vendor_keeps_the_contract(name):
    from accel.testing import AcceleratorConformance

    tests = [one for one in dir(AcceleratorConformance) if one.startswith("test_")]
    quick = [one for one in tests if not one.startswith(IN_A_FRESH_PROCESS)]
    report = run(f"accel.vendors:{name}Accelerator", tests=tests if name == "NPU" else quick)
    assert report.passed, report.text()
