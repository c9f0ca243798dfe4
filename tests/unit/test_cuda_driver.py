"""Which GPUs a process sees: CUDA_VISIBLE_DEVICES in every spelling, as a table."""

import pytest

from accel.nvidia.driver import GPU, Driver, read_driver, visible, visible_capabilities
from accel.probe import Rejected

A = GPU("A100", "GPU-aa11", (8, 0), 40)
B = GPU("H100", "GPU-bb22", (9, 0), 80)
C = GPU("H100", "GPU-bc33", (9, 0), 80)
M1 = GPU("H100", "MIG-0101", (9, 0), 10)
M2 = GPU("H100", "MIG-0202", (9, 0), 20)
SPLIT = GPU("H100", "GPU-cc44", (9, 0), 80, (M1, M2))
EMPTY = GPU("H100", "GPU-dd55", (9, 0), 80, ())


@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        (None, (A, B, C)),
        ("", ()),
        ("0,1,2", (A, B, C)),
        (" 2 , 0 ", (C, A)),
        ("1gpu", (B,)),
        ("0,7,1", (A,)),
        ("0,-1,1", (A,)),
        ("x,0", ()),
        ("1,1", ()),
        ("NoDevFiles", ()),
        ("GPU-bb22", (B,)),
        ("GPU-bb22,GPU-aa", (B, A)),
        ("GPU-b", ()),
        ("GPU-aa11,GPU-zz", (A,)),
        ("GPU-aa11,GPU-aa", ()),
        ("MIG-0101", ()),
    ],
)
def test_entries_select_devices(selected, expected):
    assert visible((A, B, C), selected) == expected


@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        (None, (M1,)),
        ("MIG-0202", (M2,)),
        ("MIG-0202,MIG-0101", (M2,)),
        ("0", (A,)),
        ("1", (M1,)),
        ("0,1", (M1,)),
        ("2", ()),
        ("GPU-cc44", (M1,)),
    ],
)
def test_one_mig_instance_hides_everything_else(selected, expected):
    assert visible((A, SPLIT, EMPTY), selected) == expected


@pytest.mark.parametrize(
    ("selected", "order", "expected"),
    [
        (None, None, ((8, 0), (9, 0))),
        ("0", None, ((8, 0), (9, 0))),
        ("0", "PCI_BUS_ID", ((8, 0),)),
        ("GPU-aa11", None, ((8, 0),)),
        ("", None, ()),
    ],
)
def test_capabilities_count_every_gpu_that_an_index_might_mean(
    monkeypatch, selected, order, expected
):
    for name, value in (("CUDA_VISIBLE_DEVICES", selected), ("CUDA_DEVICE_ORDER", order)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert visible_capabilities(Driver("1", (13, 0), (A, B))) == expected


def test_no_driver_is_an_answer():
    answer = read_driver("libno-such-driver.so.1")
    assert isinstance(answer, Rejected)
    assert "libno-such-driver.so.1" in answer.reason
