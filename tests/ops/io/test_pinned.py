"""Page-locked memory, whatever the limit; freed memory is never used by anybody else."""

from __future__ import annotations

import ctypes
import gc
import mmap
import resource
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from io_cases import BYTES, builder, in_child, libc

from accel.ops.io.locking import LibcLocking
from accel.ops.io.pinned import PinnedMemory, shared

MIB = 1 << 20


@pytest.fixture(params=["native", "reference"])
def pins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ACCEL_OPS", request.param)
    return builder("PinMemoryBuilder").load().pin_handle()


def locked_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmLck"))


def test_a_locked_tensor(pins: Any) -> None:
    gc.collect()
    before = locked_kib()
    for dtype in (torch.uint8, torch.float32, torch.bfloat16, torch.complex128, torch.bool):
        made = pins.new_cpu_locked_tensor(1000, torch.empty(0, dtype=dtype))
        assert made.shape == (1000,)
        assert made.dtype == dtype
        assert made.data_ptr() % mmap.PAGESIZE == 0
        made.fill_(1)
        assert pins.is_pinned(made)
        assert pins.is_pinned(made[3:9])
        assert locked_kib() > before
        assert pins.free_cpu_locked_tensor(made[1:]) is False
        assert pins.free_cpu_locked_tensor(made) is True
        assert pins.free_cpu_locked_tensor(made) is False
        assert not pins.is_pinned(made)
        assert made.sum() == 1000
    assert locked_kib() == before
    empty = pins.new_cpu_locked_tensor(0, BYTES)
    assert empty.numel() == 0
    assert pins.free_cpu_locked_tensor(empty) is True


def test_by_address_and_from_both_ops(pins: Any) -> None:
    handle = builder().load().aio_handle()
    made = pins.new_cpu_locked_tensor(100, BYTES)
    assert handle.is_pinned(made)
    assert pins.free_cpu_locked_tensor_by_ptr(made.data_ptr() + 1) is False
    assert handle.free_cpu_locked_tensor(made) is True
    other = handle.new_cpu_locked_tensor(num_elem=100, example_tenosr=BYTES)
    assert pins.free_cpu_locked_tensor_by_ptr(address=other.data_ptr()) is True
    for tensor in (torch.ones(3), torch.ones(3, device="meta")):
        assert pins.is_pinned(tensor) is False
        assert pins.free_cpu_locked_tensor(tensor) is False


def test_a_tensor_that_is_dropped_is_unlocked_with_its_last_view(pins: Any) -> None:
    gc.collect()
    before = locked_kib()
    view = pins.new_cpu_locked_tensor(MIB, BYTES)[5:7]
    gc.collect()
    assert locked_kib() >= before + 1024
    assert pins.is_pinned(view)
    address = view.data_ptr() - 5
    del view
    gc.collect()
    assert locked_kib() == before
    assert pins.free_cpu_locked_tensor_by_ptr(address) is False


def test_bad_arguments(pins: Any) -> None:
    for count, example, kind, name in (
        (-1, BYTES, ValueError, "num_elem is -1"),
        (1.5, BYTES, TypeError, "num_elem is 1.5"),
        (3, [1], TypeError, "example_tensor is a list"),
        (2**62, BYTES, MemoryError, "num_elem is 4611686018427387904"),
    ):
        with pytest.raises(kind, match=name):
            pins.new_cpu_locked_tensor(count, example)
    with pytest.raises(TypeError, match="address is None"):
        pins.free_cpu_locked_tensor_by_ptr(None)
    with pytest.raises(TypeError, match="tensor is a str"):
        pins.free_cpu_locked_tensor("x")
    with pytest.raises(TypeError, match="buffer is a str"):
        pins.is_pinned("x")


def lose_capabilities() -> None:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc("capset", header, data)


@pytest.mark.parametrize("policy", ["native", "reference"])
def test_a_limit_of_8_mib(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits is locked, the rest is ordinary memory, and one warning says how to raise it."""
    monkeypatch.setenv("ACCEL_OPS", policy)
    op = builder("PinMemoryBuilder").load()

    def run() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 * MIB, 8 * MIB))
        lose_capabilities()
        memory, handle = shared("cpu"), op.pin_handle()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            small = handle.new_cpu_locked_tensor(3 * MIB, BYTES)
            assert not told
            assert memory.locked_bytes() == 3 * MIB
            large = [handle.new_cpu_locked_tensor(16 * MIB, BYTES) for _ in range(2)]
        for one in large:
            assert one.fill_(7).sum() == 7 * 16 * MIB
            assert handle.is_pinned(one)
        [warning] = told
        assert "of 16777216 bytes of a tensor could be locked" in str(warning.message)
        assert "--ulimit memlock=-1" in str(warning.message)
        assert 8 * MIB - mmap.PAGESIZE <= memory.locked_bytes() <= 8 * MIB
        assert "may lock 8388608 bytes" in op.notes("cpu")[0]
        assert all(map(handle.free_cpu_locked_tensor, [small, *large]))

    in_child(run)


def test_a_child_has_no_locks_of_its_parents(pins: Any) -> None:
    made = pins.new_cpu_locked_tensor(10, BYTES)
    made.fill_(1)

    def run() -> None:
        made.fill_(2)
        assert not pins.is_pinned(made)
        assert pins.free_cpu_locked_tensor(made) is False

    in_child(run)
    assert made.sum() == 10
    assert pins.free_cpu_locked_tensor(made) is True


def test_where_a_device_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's runtime is asked; if it cannot, the system locks, and a warning says so."""
    memory = PinnedMemory("cuda")
    if torch.cuda.is_available():
        made = memory.new(1000, torch.ones(1))
        assert made.is_pinned()
        assert memory.locked_bytes() == 0
    else:
        with pytest.warns(RuntimeWarning, match="the device's runtime cannot pin memory"):
            made = memory.new(1000, torch.ones(1))
        assert memory.locked_bytes() == 4000
    assert memory.is_pinned(made)
    assert memory.free(made) is True
    assert memory.free(made) is False


def test_without_the_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    locking = LibcLocking()
    monkeypatch.setattr(locking, "_function", lambda name: None)
    assert locking.lock(0, 100) == 0
    locking.unlock(0, 100)
