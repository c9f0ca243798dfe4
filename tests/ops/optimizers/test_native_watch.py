"""The native watch over a step's tensors: what it was made for, and what is something else."""

from __future__ import annotations

import gc
import sys
from array import array
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from accel.ops.optimizers.adam import FusedAdam
from accel.ops.optimizers.prepared import native_watch
from accel.ops.optimizers.prepared.native_watch import NativeWatch, places_of
from accel.ops.optimizers.prepared.table import Occupied, PointerTable
from accel.ops.optimizers.prepared.watch import Seen

COUNT = 60
KEYS = ("exp_avg", "step")
pytestmark = pytest.mark.skipif(
    isinstance(native_watch.python_api(), str), reason="this torch cannot be asked natively"
)


class Watched:
    """Parameters with gradients and states, and a watch over them."""

    def __init__(self, op: FusedAdam, shapes: list[int] | None = None, written: Any = ()) -> None:
        self.params: Any = [torch.rand(n).requires_grad_() for n in shapes or [7] * COUNT]
        for param in self.params:
            param.grad = torch.rand(param.shape)
        self.states: Any = defaultdict(dict)
        for param in self.params:
            self.states[param] |= {"step": torch.zeros(()), "exp_avg": torch.rand(param.shape)}
        lists = {
            "params": self.params,
            "grads": [param.grad for param in self.params],
            "exp_avg": [state["exp_avg"] for state in self.states.values()],
            "step": [state["step"] for state in self.states.values()],
        }
        self.table = PointerTable(lists)
        seen = [
            [
                Seen(listed[index], self.table.slot(field, index), field == "step")
                for field, listed in lists.items()
            ]
            for index in range(len(self.params))
        ]
        library = op.kernel.native.watcher
        places = places_of(self.params, self.states)
        self.watch = NativeWatch(library, KEYS, seen, places, written)

    def takes(self) -> bool:
        taken = self.watch.take(self.params, self.states)
        self.watch.release()
        return taken


@pytest.fixture
def watched(fused_adam: FusedAdam) -> Watched:
    return Watched(fused_adam)


def test_gradients_are_found_where_they_are(watched: Watched) -> None:
    for param in watched.params:
        param.grad = torch.rand(7)
    assert watched.takes()
    found = [param.grad.data_ptr() for param in watched.params]
    assert [*watched.table.pointers["grads"]] == found


def tensor_of(watched: Watched, key: str, index: int) -> Tensor:
    param: Tensor = watched.params[index]
    if key == "grad":
        assert param.grad is not None
        return param.grad
    return param if key == "param" else watched.states[param][key]


def set_data(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], None]:
    def changed(tensor: Tensor) -> None:
        tensor.data = change(tensor.data)

    return changed


def emptied(data: Tensor) -> Tensor:
    data.untyped_storage().resize_(0)
    return data


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "smaller": set_data(lambda data: data[..., :3] if data.ndim else data.expand(2)),
    "strided": set_data(
        lambda data: data.repeat_interleave(2)[::2] if data.ndim else data.expand(3)
    ),
    "negated": set_data(torch._neg_view),
    "of another type": set_data(Tensor.bfloat16),
    "without memory": set_data(lambda data: emptied(data.clone())),
}


@pytest.mark.parametrize("index", [0, COUNT - 1])
@pytest.mark.parametrize("key", ["param", "grad", *KEYS])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(watched: Watched, change: str, key: str, index: int) -> None:
    tensor = tensor_of(watched, key, index)
    kept = tensor.data
    assert watched.takes()
    CHANGES[change](tensor)
    assert not watched.takes()
    tensor.data = kept
    assert watched.takes()


@pytest.mark.parametrize("key", ["param", *KEYS])
def test_a_move_of_what_is_written_is_noticed(watched: Watched, key: str) -> None:
    tensor = tensor_of(watched, key, 5)
    kept = tensor.data
    tensor.data = torch.zeros_like(kept)
    assert not watched.takes()
    tensor.data = kept
    assert watched.takes()


STATES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "replaced": lambda state: state.update(exp_avg=state["exp_avg"].clone()),
    "removed": lambda state: state.pop("exp_avg"),
    "cleared": lambda state: state.clear(),
    "exchanged": lambda state: state.update(exp_avg=state["step"], step=state["exp_avg"]),
    "no tensor": lambda state: state.update(step=1.0),
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES)
@pytest.mark.parametrize("index", [0, COUNT - 1])
def test_every_change_of_a_state_is_noticed(watched: Watched, change: Any, index: int) -> None:
    state = watched.states[watched.params[index]]
    before = dict(state)
    change(state)
    assert not watched.takes()
    state.clear()
    state.update(before)
    assert watched.takes()
    state["more"] = 1
    assert watched.takes()


def test_a_state_under_an_equal_name_is_found(watched: Watched) -> None:
    state = watched.states[watched.params[3]]
    state["".join(["exp", "_avg"])] = state.pop("exp_avg")
    assert watched.takes()


def test_every_change_of_the_states_is_noticed(watched: Watched) -> None:
    other = watched.states.copy()
    param = watched.params[3]
    assert watched.takes()
    entry = watched.states.pop(param)
    assert not watched.takes()
    watched.states[param] = entry
    # It stands at another place now.
    assert not watched.takes()
    watched.states = other
    assert watched.takes()
    watched.states[param] = defaultdict(dict, entry)
    assert not watched.takes()
    watched.states = {}
    assert not watched.takes()


@pytest.mark.parametrize("index", [0, COUNT - 1])
def test_another_parameter_is_noticed(watched: Watched, index: int) -> None:
    kept = watched.params[index]
    watched.params[index] = torch.rand(7)
    assert not watched.takes()
    watched.params[index] = kept
    assert watched.takes()
    watched.params[index].grad, grad = None, kept.grad
    assert not watched.takes()
    watched.params[index].grad = grad.requires_grad_()
    assert not watched.takes()
    del watched.params[index]
    assert not watched.takes()
    assert not watched.watch.take(tuple(watched.params), watched.states)


def test_empty_tensors_are_taken(fused_adam: FusedAdam) -> None:
    assert Watched(fused_adam, [0, 3]).takes()


def test_nothing_is_kept_between_steps(watched: Watched) -> None:
    tensors = [tensor_of(watched, key, 3) for key in ("param", "grad", *KEYS)]
    before = [sys.getrefcount(tensor) for tensor in tensors]
    assert watched.watch.take(watched.params, watched.states)
    assert [sys.getrefcount(tensor) for tensor in tensors] == [count + 1 for count in before]
    assert watched.watch.take(watched.params, watched.states)
    assert [sys.getrefcount(tensor) for tensor in tensors] == [count + 1 for count in before]
    watched.watch.release()
    assert [sys.getrefcount(tensor) for tensor in tensors] == before
    assert watched.watch.take(watched.params, watched.states)
    del watched.watch
    gc.collect()
    assert [sys.getrefcount(tensor) for tensor in tensors] == before


def test_who_cannot_be_asked_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = native_watch.python_api.__wrapped__
    with monkeypatch.context() as patch:
        patch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
        assert "no lock" in ask()
    monkeypatch.setattr(Tensor, "__dlpack_c_exchange_api__", None)
    assert "no DLPack exchange table" in ask()
    # As some releases of torch had it.
    monkeypatch.setattr(Tensor, "__dlpack_c_exchange_api__", 1 << 20)
    assert "of another form" in ask()


blocks = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=20)


@given(blocks, blocks.filter(bool))
def test_overlap_is_exact(written: list, read: list) -> None:
    from accel.builders import cpu

    memory = torch.zeros(400)
    apart: list[tuple[int, int]] = []
    for start, size in sorted(written):
        if size and (not apart or start >= sum(apart[-1])):
            apart.append((start, size))
    taken = {at for start, size in apart for at in range(start, start + size)}
    expected = any(at in taken for start, size in read for at in range(start, start + size))

    occupied = Occupied([memory[start : start + size] for start, size in apart])
    starts = array("q", [memory.data_ptr() + 4 * start for start, _ in read])
    if all(size for _, size in read):
        assert occupied.meets(starts, array("q", [4 * size for _, size in read])) == expected

    op = cpu.FusedAdamBuilder().jit_load()
    watched = Watched(op, [size for _, size in read], [*occupied.blocks()])
    assert watched.takes()
    for param, (start, size) in zip(watched.params, read, strict=True):
        param.grad = memory[start : start + size]
    assert watched.takes() != expected
