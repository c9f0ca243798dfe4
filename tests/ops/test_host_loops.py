"""The native loops over tensors: what has moved, and what overlaps."""

from __future__ import annotations

import gc
from array import array

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accel.ops import host_loops, torch_handles
from accel.ops.adam import FusedAdam
from accel.ops.table import Occupied, PointerTable


@pytest.fixture(params=[True, False], ids=["handles", "python"])
def loops(
    request: pytest.FixtureRequest, fused_adam: FusedAdam, monkeypatch: pytest.MonkeyPatch
) -> host_loops.HostLoops:
    if not request.param:
        monkeypatch.setattr(torch_handles, "handles_of", lambda tensors: None)
    return fused_adam.kernel.native.loops


def table(count: int = 50) -> PointerTable:
    roles = {role: [torch.rand(7) for _ in range(count)] for role in ("params", "grads", "states")}
    return PointerTable(roles)


@pytest.mark.parametrize("role", ["params", "states"])
@pytest.mark.parametrize("index", [0, 20, 49])
def test_every_move_is_noticed(loops: host_loops.HostLoops, role: str, index: int) -> None:
    made = table()
    assert not made.moved(loops)
    made.roles["grads"][index].data = torch.rand(7)
    assert not made.moved(loops)
    kept = made.roles[role][index].data
    made.roles[role][index].data = torch.rand(7)
    assert made.moved(loops)
    made.roles[role][index].data = kept
    assert not made.moved(loops)
    made.roles[role][index].untyped_storage().resize_(0)
    assert made.moved(loops)


def test_empty_tensors_stay_where_they_are(loops: host_loops.HostLoops) -> None:
    made = PointerTable({"params": [torch.empty(0), torch.rand(3)]})
    assert not made.moved(loops)
    assert not PointerTable({"params": [torch.empty(0)]}).moved(loops)


def test_a_watch_lets_its_tensors_go(loops: host_loops.HostLoops) -> None:
    tensor = torch.rand(7)
    before = tensor._use_count()
    made = PointerTable({"params": [tensor]})
    assert not made.moved(loops)
    del made
    gc.collect()
    assert tensor._use_count() == before


blocks = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=20)


@given(blocks, blocks)
def test_overlap_is_exact(written: list, read: list) -> None:
    from accel.builders import cpu

    loops = cpu.FusedAdamBuilder().jit_load().kernel.native.loops
    bytes_ = torch.zeros(400, dtype=torch.uint8)
    apart: list[tuple[int, int]] = []
    for start, size in sorted(written):
        if size and (not apart or start >= sum(apart[-1])):
            apart.append((start, size))
    occupied = Occupied(bytes_[start : start + size] for start, size in apart)
    base = bytes_.data_ptr()
    starts = array("q", [base + start for start, _ in read])
    sizes = array("q", [size for _, size in read])
    taken = {byte for start, size in apart for byte in range(start, start + size)}
    expected = any(b in taken for start, size in read for b in range(start, start + size))
    assert occupied.meets(starts, sizes, loops) == expected
    if all(sizes):
        assert occupied.meets(starts, sizes, None) == expected
