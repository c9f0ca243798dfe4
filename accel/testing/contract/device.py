"""Tests of the device members."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from accel.base import Accelerator, DeviceProperties
from accel.testing.contract.identity import public_members
from accel.testing.kit import (
    Conformance,
    expect,
    expect_equal,
    expect_none,
    expect_raises,
    expect_type,
    on_device,
)

_BAD_INDICES: tuple[tuple[Any, type[Exception]], ...] = (
    (-1, ValueError),
    ("0", TypeError),
    (1.5, TypeError),
    (True, TypeError),
)


def indexed_members() -> list[str]:
    """Return the members of the contract that take a `device_index`."""
    found = []
    for member in public_members():
        value = getattr(Accelerator, member)
        if inspect.isfunction(value) and "device_index" in inspect.signature(value).parameters:
            found.append(member)
    return found


class DeviceTests(Conformance):
    """Names, indices, the current device, properties, and tensors on the device."""

    def test_device_names(self) -> None:
        """The name is torch's device type, with ``:`` and the index if one is given."""
        kind = self.acc.device_type
        expect_equal(self.acc.device_name(), kind, "device_name()")
        for index in (0, 1):
            name = self.acc.device_name(index)
            expect_type(name, str, f"device_name({index})")
            expect(name in {kind, f"{kind}:{index}"}, f"device_name({index}) is {name!r}.")

    @on_device
    def test_devices_are_torch_devices(self) -> None:
        """`device` is the `torch.device` of `device_name`."""
        for arguments in ((), (0,)):
            device = self.acc.device(*arguments)
            expect_type(device, torch.device, f"device{arguments}")
            expect_equal(device, torch.device(self.acc.device_name(*arguments)), "device")

    def test_device_index_is_checked(self) -> None:
        """Everywhere, a negative index is a `ValueError`, and a non-integer a `TypeError`."""
        for member in indexed_members():
            method = getattr(self.acc, member)
            state = (
                (torch.zeros(1, dtype=torch.uint8, device="cpu"),)
                if member == "set_rng_state"
                else ()
            )
            for bad, error in _BAD_INDICES:
                expect_raises(
                    error,
                    lambda call=method, args=state, bad=bad: call(*args, bad),  # type: ignore[misc]
                    f"{member}(device_index={bad!r})",
                )

    @on_device
    def test_device_count(self) -> None:
        """There is at least one device."""
        count = self.acc.device_count()
        expect_type(count, int, "device_count()")
        expect(count >= 1, f"device_count() is {count} although the device is available.")

    @on_device
    def test_current_device(self) -> None:
        """`current_device` returns the int that was passed to `set_device`."""
        before = self.acc.current_device()
        expect_type(before, int, "current_device()")
        try:
            for index in self.each_device():
                expect_none("set_device()", self.acc.set_device, index)
                expect_equal(self.acc.current_device(), index, f"current_device() on {index}")
                named = torch.device(self.acc.current_device_name())
                expect_equal(named.type, self.acc.device_type, "current_device_name()'s type")
                expect(named.index in {None, index}, f"current_device_name() on {index}: {named}.")
        finally:
            self.acc.set_device(before)

    @on_device
    def test_current_device_by_torchs_names(self) -> None:
        """The members with names of `torch.accelerator` set and return the same device."""
        before = self.acc.current_device()
        try:
            for index in self.each_device():
                for choose in (self.acc.set_device_index, self.acc.set_device_idx):
                    self.acc.set_device(before)
                    expect_none(f"{choose.__name__}()", choose, index)
                    found = (self.acc.current_device_index(), self.acc.current_device_idx())
                    expect_equal(found, (index, index), f"the index after {choose.__name__}()")
                    expect_equal(self.acc.current_device(), index, "current_device() after it")
        finally:
            self.acc.set_device(before)
        expect_equal(self.acc.current_accelerator(), self.acc.device(), "current_accelerator()")
        expect_equal(self.acc.current_accelerator(True), self.acc.device(), "the available one")

    @on_device
    def test_device_scopes_restore(self) -> None:
        """`device_index` makes a device current in a block, and restores the previous one."""
        before = self.acc.current_device()
        try:
            for index in (None, *self.each_device()):
                with self.acc.device_index(index):
                    inside = before if index is None else index
                    expect_equal(self.acc.current_device(), inside, f"the device in ({index})")
                expect_equal(self.acc.current_device(), before, f"the device after ({index})")

                def fail(index: int | None = index) -> None:
                    with self.acc.device_index(index):
                        raise KeyError("on purpose")

                expect_raises(KeyError, fail, "an exception in a device's scope")
                expect_equal(self.acc.current_device(), before, "the device after an exception")
        finally:
            self.acc.set_device(before)

    @on_device
    def test_no_device_beyond_the_last(self) -> None:
        """`set_device` refuses missing devices, unless every index names the one device."""
        beyond = self.acc.device_count()
        if self.acc.device_name(beyond) == self.acc.device_name():
            self.acc.set_device(beyond)
            expect_equal(self.acc.current_device(), 0, "current_device() of the one device")
            return
        before = self.acc.current_device()
        expect_raises(
            (ValueError, RuntimeError),
            lambda: self.acc.set_device(beyond),
            f"set_device({beyond}) of {beyond} device(s)",
        )
        expect_equal(self.acc.current_device(), before, "current_device() after a refusal")

    @on_device
    def test_synchronize(self) -> None:
        """It takes an index or none, and after it the host sees the result."""
        result = torch.arange(1000, dtype=torch.int64, device=self.acc.device()).sum()
        expect_none("synchronize()", self.acc.synchronize)
        expect_equal(int(result), 499500, "a sum after synchronize()")
        for index in self.each_device():
            self.acc.synchronize(index)

    @on_device
    def test_on_accelerator(self) -> None:
        """It is true of tensors on the device, and of no others."""
        here = self.acc.on_accelerator(
            torch.ones(1, dtype=torch.float32, device=self.acc.device(0))
        )
        expect_type(here, bool, "on_accelerator()")
        expect(here, "on_accelerator() of a tensor on the device is False.")
        elsewhere = self.acc.on_accelerator(torch.ones(1, dtype=torch.float32, device="meta"))
        expect_equal(elsewhere, False, "on_accelerator() of a tensor on 'meta'")

    @on_device
    def test_the_device_computes(self) -> None:
        """A product on the device agrees with the host's in float64."""
        generator = torch.Generator().manual_seed(7)
        left, right = (
            torch.randn(33, 33, generator=generator, dtype=torch.float32, device="cpu")
            for _ in range(2)
        )
        exact = left.double() @ right.double()
        device = self.acc.device()
        found = (left.to(device) @ right.to(device)).cpu().double()
        worst = float((found - exact).abs().max())
        expect(worst < 1e-2, f"a 33 x 33 product is off by {worst}.")

    @on_device
    def test_device_properties(self) -> None:
        """They are of the declared types, and the memory is `total_memory`."""
        for arguments in ((), *((index,) for index in self.each_device())):
            found = self.acc.device_properties(*arguments)
            expect_type(found, DeviceProperties, f"device_properties{arguments}")
            expect_type(found.name, str, "its name")
            expect(found.name, "its name is empty.")
            expect_equal(self.acc.get_device_name(*arguments), found.name, "get_device_name()")
            for part in ("uuid", "capability", "driver"):
                expect_type(getattr(found, part), (str, type(None)), f"its {part}")
            expect_type(found.total_memory, int, "its total_memory")
            if self.acc.has("memory"):
                total = self.acc.total_memory(*arguments)
                expect_equal(found.total_memory, total, "its total_memory")

    @on_device
    def test_device_capability(self) -> None:
        """It is a pair of numbers, the one in `device_properties`, or ``None``."""
        for arguments in ((), *((index,) for index in self.each_device())):
            found = self.acc.get_device_capability(*arguments)
            expect_type(found, (tuple, type(None)), f"get_device_capability{arguments}")
            if found is not None:
                expect_equal([*map(type, found)], [int, int], f"the types in {found}")
                named = self.acc.device_properties(*arguments).capability
                expect_equal(named, ".".join(map(str, found)), "the capability in its properties")
