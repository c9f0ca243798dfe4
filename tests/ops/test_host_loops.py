"""The native loop over tensors: what it was prepared for, and what is something else."""

from __future__ import annotations

import gc
import sys
from array import array
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from accel.ops import host_loops, torch_handles
from accel.ops.adam import FusedAdam
from accel.ops.table import Occupied, PointerTable

COUNT = 200
pytestmark = pytest.mark.skipif(
    torch_handles.tensor_api() is None, reason="this torch does not tell of gradients natively"
)


@pytest.fixture
def loops(fused_adam: FusedAdam) -> host_loops.HostLoops:
    return fused_adam.kernel.native.loops


class Prepared:
    """Parameters with gradients and states, and a snapshot of them."""

    def __init__(self, loops: host_loops.HostLoops) -> None:
        self.params = [torch.rand(7).requires_grad_() for _ in range(COUNT)]
        for param in self.params:
            param.grad = torch.rand(7)
        self.states: list[dict[str, Any]] = [
            {"step": torch.zeros(()), "exp_avg": torch.rand(7)} for _ in self.params
        ]
        self.table = PointerTable(
            {
                "params": self.params,
                "grads": self.grads(),
                "exp_avgs": [state["exp_avg"] for state in self.states],
                "steps": [state["step"] for state in self.states],
            }
        )
        made = loops.snapshot(
            self.params, self.grads(), self.states, [(self.table, range(COUNT))], []
        )
        assert made is not None
        self.snapshot = made

    def grads(self) -> list[Tensor]:
        return [param.grad for param in self.params]

    def takes(self) -> bool:
        taken = self.snapshot.take(self.params)
        self.snapshot.release()
        return taken


@pytest.fixture
def prepared(loops: host_loops.HostLoops) -> Prepared:
    return Prepared(loops)


def test_gradients_are_found_where_they_are(prepared: Prepared) -> None:
    for param in prepared.params:
        param.grad = torch.rand(7)
    assert prepared.takes()
    assert [*prepared.table.pointers["grads"]] == [grad.data_ptr() for grad in prepared.grads()]


@pytest.mark.parametrize("index", [0, 77, COUNT - 1])
@pytest.mark.parametrize("key", ["params", "exp_avg", "step"])
def test_every_move_is_noticed(prepared: Prepared, key: str, index: int) -> None:
    tensor = prepared.params[index] if key == "params" else prepared.states[index][key]
    assert prepared.takes()
    assert not prepared.table.moved()
    kept = tensor.data
    tensor.data = torch.rand(tensor.shape)
    assert not prepared.takes()
    assert prepared.table.moved()
    tensor.data = kept
    assert prepared.takes()
    assert not prepared.table.moved()
    tensor.untyped_storage().resize_(0)
    assert not prepared.takes()
    assert prepared.table.moved()


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "replaced": lambda state: state.update(exp_avg=state["exp_avg"].clone()),
    "added": lambda state: state.update(more=1),
    "removed": lambda state: state.pop("exp_avg"),
    "cleared": lambda state: state.clear(),
    "exchanged": lambda state: state.update(exp_avg=state["step"], step=state["exp_avg"]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("index", [0, 77, COUNT - 1])
def test_every_change_of_a_state_is_noticed(
    prepared: Prepared, change: Callable[[dict[str, Any]], Any], index: int
) -> None:
    before = dict(prepared.states[index])
    change(prepared.states[index])
    assert not prepared.takes()
    prepared.states[index].clear()
    prepared.states[index].update(before)
    assert prepared.takes()


@pytest.mark.parametrize("index", [0, 77, COUNT - 1])
def test_another_parameter_is_noticed(prepared: Prepared, index: int) -> None:
    kept = prepared.params[index]
    prepared.params[index] = torch.rand(7)
    assert not prepared.takes()
    prepared.params[index] = kept
    assert prepared.takes()
    del prepared.params[index]
    assert not prepared.takes()
    assert not prepared.snapshot.take(tuple(prepared.params))


def test_empty_tensors_stay_where_they_are(loops: host_loops.HostLoops) -> None:
    params = [torch.empty(0).requires_grad_(), torch.rand(3).requires_grad_()]
    for param in params:
        param.grad = torch.rand(param.shape)
    grads = [param.grad for param in params]
    table = PointerTable({"params": params, "grads": grads})
    snapshot = loops.snapshot(params, grads, [], [(table, range(2))], [])
    assert snapshot.take(params)
    assert not table.moved()


def test_nothing_is_nothing(loops: host_loops.HostLoops) -> None:
    assert loops.snapshot([], [], [], [], []).take([])


def test_a_snapshot_lets_its_tensors_go(loops: host_loops.HostLoops) -> None:
    prepared = Prepared(loops)
    tensors = [prepared.params[3], prepared.params[3].grad]
    assert prepared.snapshot.take(prepared.params)
    del prepared
    gc.collect()
    assert [tensor._use_count() for tensor in tensors] == [1, 2]


def test_an_interpreter_without_a_lock_is_left_to_python(
    loops: host_loops.HostLoops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert loops.snapshot([], [], [], [], []) is None


blocks = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=20)


@given(blocks, blocks.filter(bool))
def test_overlap_is_exact(written: list, read: list) -> None:
    from accel.builders import cpu

    loops = cpu.FusedAdamBuilder().jit_load().kernel.native.loops
    memory = torch.zeros(400)
    apart: list[tuple[int, int]] = []
    for start, size in sorted(written):
        if size and (not apart or start >= sum(apart[-1])):
            apart.append((start, size))
    taken = {at for start, size in apart for at in range(start, start + size)}
    expected = any(at in taken for start, size in read for at in range(start, start + size))

    own = [memory[start : start + size] for start, size in apart]
    occupied = Occupied(own)
    starts = array("q", [memory.data_ptr() + 4 * start for start, _ in read])
    if all(size for _, size in read):
        assert occupied.meets(starts, array("q", [4 * size for _, size in read])) == expected

    params = [torch.zeros(size).requires_grad_() for _, size in read]
    for param in params:
        param.grad = torch.zeros(param.shape)
    grads = [param.grad for param in params]
    table = PointerTable({"params": params, "grads": grads})
    snapshot = loops.snapshot(params, grads, [], [(table, range(len(grads)))], occupied.blocks())
    assert snapshot.take(params)
    for param, (start, size) in zip(params, read, strict=True):
        param.grad = memory[start : start + size]
    assert snapshot.take(params) != expected
