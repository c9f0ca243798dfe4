"""Tests of the memory members."""

from __future__ import annotations

import torch

from accel.testing.kit import (
    Conformance,
    covers,
    expect,
    expect_equal,
    expect_none,
    expect_raises,
    expect_type,
    on_device,
)

_BLOCK = 64 << 20
_COUNTERS = ("memory_allocated", "memory_reserved", "memory_cached")
_PEAKS = ("max_memory_allocated", "max_memory_reserved", "max_memory_cached")
_RESETS = ("reset_peak_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached")


class MemoryTests(Conformance):
    """Counters, peaks, totals and pinned memory, in bytes."""

    def _block(self) -> torch.Tensor:
        """Return `_BLOCK` bytes on the device, every page of them touched."""
        block = torch.ones(_BLOCK // 4, dtype=torch.float32, device=self.acc.device())
        self.acc.synchronize()
        return block

    @covers("memory")
    def test_memory_is_counted(self) -> None:
        """A tensor's bytes are in every counter while it lives."""
        before = {member: getattr(self.acc, member)() for member in _COUNTERS}
        block = self._block()
        for member, count in before.items():
            expect_type(count, int, f"{member}()")
            grown = getattr(self.acc, member)(self.acc.current_device()) - count
            least = _BLOCK * 0.9 if member == "memory_allocated" else 0
            expect(grown >= least - (8 << 20), f"{member} grew by {grown} for {_BLOCK} bytes.")
        stats = self.acc.memory_stats()
        expect_type(stats, dict, "memory_stats()")
        counted = stats.get("allocated_bytes.all.current")
        expect_type(counted, int, "memory_stats()['allocated_bytes.all.current']")
        expect((counted or 0) >= block.nbytes * 0.9, f"memory_stats() counts {counted} bytes.")

    @covers("memory")
    def test_reserved_covers_allocated(self) -> None:
        """The allocator holds at least what tensors occupy."""
        block = self._block()
        reserved, allocated = self.acc.memory_reserved(), self.acc.memory_allocated()
        slack = 8 << 20
        expect(reserved + slack >= allocated, f"reserved {reserved} < allocated {allocated}.")
        expect(reserved >= block.nbytes * 0.9, f"reserved {reserved} for {block.nbytes} bytes.")

    @covers("peaks")
    def test_peaks_are_kept_and_reset(self) -> None:
        """A peak outlives its tensor, and each reset restarts it from the current use."""
        for reset in _RESETS:
            block = self._block()
            del block
            self.acc.empty_cache()
            for member in _PEAKS:
                now, peak = getattr(self.acc, _COUNTERS[0])(), getattr(self.acc, member)()
                expect_type(peak, int, f"{member}()")
                expect(peak >= now + _BLOCK // 2, f"{member} forgot {_BLOCK} bytes: {peak}.")
            expect_none(f"{reset}()", getattr(self.acc, reset))
            for member in _PEAKS:
                peak, now = getattr(self.acc, member)(), self.acc.memory_reserved()
                expect(peak <= now + _BLOCK // 2, f"{member} is {peak} after {reset}(), not {now}.")

    @covers("memory")
    def test_total_and_available(self) -> None:
        """Available memory is part of the total, for every device."""
        for index in ((), *((one,) for one in self.each_device())):
            total, free = self.acc.total_memory(*index), self.acc.available_memory(*index)
            expect_type(total, int, f"total_memory{index}")
            expect_type(free, int, f"available_memory{index}")
            expect(total >= _BLOCK, f"total_memory{index} is {total}: is that in bytes?")
            expect(0 < free <= total, f"available_memory{index} is {free} of {total}.")
            for member in (self.acc.mem_get_info, self.acc.get_memory_info):
                pair = member(*index)
                expect_type(pair, tuple, f"{member.__name__}{index}")
                expect_equal([*map(type, pair)], [int, int], f"the types in {pair}")
                expect_equal(pair[1], total, f"the total of {member.__name__}{index}")
                expect(0 < pair[0] <= total, f"{member.__name__}{index} is {pair}.")

    @covers("memory")
    def test_accumulated_counters_restart(self) -> None:
        """Afterwards no counter is higher, and the memory of tensors is still counted."""
        block = self._block()
        before = self.acc.memory_stats()
        for index in ((), (self.acc.current_device(),)):
            reset = self.acc.reset_accumulated_memory_stats
            expect_none("reset_accumulated_memory_stats()", reset, *index)
        after = self.acc.memory_stats()
        for name in before:
            if name.endswith((".allocated", ".freed")):
                expect_equal(after.get(name), 0, f"{name} after a reset")
        counted = after.get("allocated_bytes.all.current", 0)
        expect(counted >= block.nbytes * 0.9, f"{counted} bytes are counted after a reset.")

    @on_device
    def test_emptying_the_cache_spares_tensors(self) -> None:
        """`empty_cache` returns nothing and frees no memory that is in use."""
        kept = torch.arange(1000, dtype=torch.int64, device=self.acc.device())
        expect_none("empty_cache()", self.acc.empty_cache)
        expect_equal(int(kept.sum()), 499500, "a sum after empty_cache()")

    @on_device
    def test_emptying_the_host_cache_spares_tensors(self) -> None:
        """`empty_host_cache` returns nothing and frees no memory that is in use."""
        kept = self.acc.pin_memory(torch.arange(1000, dtype=torch.int64, device="cpu"))
        self.acc.pin_empty(1000, dtype=torch.int64)
        expect_none("empty_host_cache()", self.acc.empty_host_cache)
        expect_equal(int(kept.sum()), 499500, "a sum after empty_host_cache()")

    @on_device
    def test_empty_host_memory(self) -> None:
        """`pin_empty` and `pin_empty_like` have the requested shape and dtype, on the host."""
        like = torch.ones(3, 4, dtype=torch.float32, device=self.acc.device())
        made = {
            "pin_empty(3, 4)": self.acc.pin_empty(3, 4, dtype=torch.float16),
            "pin_empty((3, 4))": self.acc.pin_empty((3, 4), dtype=torch.float16),
            "pin_empty([3, 4])": self.acc.pin_empty([3, 4], dtype=torch.float16),
            "pin_empty_like()": self.acc.pin_empty_like(like, dtype=torch.float16),
        }
        for what, tensor in made.items():
            found = (tuple(tensor.shape), tensor.dtype, tensor.device.type)
            expect_equal(found, ((3, 4), torch.float16, "cpu"), what)
            expect_equal(self.acc.is_pinned(tensor), self.acc.has("pinning"), f"{what} is pinned")
        expect_equal(self.acc.pin_empty_like(like).dtype, torch.float32, "pin_empty_like()'s dtype")
        expect_equal(tuple(self.acc.pin_empty(dtype=torch.int64).shape), (), "pin_empty()'s shape")
        expect_raises(
            ValueError,
            lambda: self.acc.pin_empty(2, dtype=torch.float32, device="meta"),
            "pin_empty() on another device",
        )

    @on_device
    def test_registered_host_memory(self) -> None:
        """Registered memory is page-locked until it is unregistered, if the runtime supports it."""
        alignment = self.acc.pin_memory_alignment()
        expect_type(alignment, int, "pin_memory_alignment()")
        expect(alignment >= 1, f"pin_memory_alignment() is {alignment}.")
        memory = torch.zeros(1 << 16, dtype=torch.uint8, device="cpu")
        first = -memory.data_ptr() % alignment
        part = memory[first : first + (1 << 15)]
        registered = self.acc.register_host_memory(part.data_ptr(), part.nbytes)
        expect_type(registered, bool, "register_host_memory()")
        try:
            if registered:
                expect(self.acc.is_pinned(part), "is_pinned() of registered memory is False.")
            copied = part.to(self.acc.device(), non_blocking=True)
            self.acc.synchronize()
            expect_equal(int(copied.sum()), 0, "a sum of copied memory")
        finally:
            if registered:
                expect_none("it", self.acc.unregister_host_memory, part.data_ptr())
        if registered:
            expect(not self.acc.is_pinned(part), "memory is pinned after it was unregistered.")

    @on_device
    def test_pinning_keeps_values(self) -> None:
        """Pinned or not, memory from `pin_memory` has the requested values or shape."""
        given = torch.arange(12.0, dtype=torch.float32, device="cpu").reshape(3, 4)
        pinned = self.acc.pin_memory(given)
        expect(torch.equal(pinned, given), "pin_memory() lost the values.")
        flat = self.acc.pin_memory(given, match_shape=False)
        expect_equal(tuple(flat.shape), (12,), "the shape of pin_memory(match_shape=False)")
        bare = self.acc.pin_memory(given, make_copy=False)
        expect_equal(tuple(bare.shape), (3, 4), "the shape of pin_memory(make_copy=False)")
        expect_type(self.acc.is_pinned(given), bool, "is_pinned()")
        free = self.acc.unpin_memory(pinned)
        expect_type(free, torch.Tensor, "unpin_memory()")
        expect(torch.equal(free, given), "unpin_memory() lost the values.")
        expect(not self.acc.is_pinned(free), "unpin_memory() returns pinned memory.")

    @covers("pinning")
    def test_memory_is_pinned(self) -> None:
        """`pin_memory` gives page-locked memory, and copies from it arrive."""
        given = torch.arange(1000.0, dtype=torch.float32, device="cpu")
        expect(not self.acc.is_pinned(given), "is_pinned() of ordinary memory is True.")
        pinned = self.acc.pin_memory(given)
        expect(self.acc.is_pinned(pinned), "is_pinned() of pinned memory is False.")
        there = pinned.to(self.acc.device(), non_blocking=True)
        self.acc.synchronize()
        expect(torch.equal(there.cpu(), given), "a copy from pinned memory lost the values.")
