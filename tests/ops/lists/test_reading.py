"""The look of the library at a call's lists: what is usual is read, all else is left to Python."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from list_cases import flag, mixed, rungs, same_bits
from torch import Tensor

from accel.builders.cpu import MultiTensorBuilder
from accel.jit import acquire
from accel.ops import python_api
from accel.ops.frame.checks import CallChecks
from accel.ops.lists import reading
from accel.ops.lists.declared import Axpby
from accel.ops.lists.listed import UNUSUAL
from accel.ops.lists.multi_tensor import MultiTensor


@pytest.fixture(scope="module")
def op() -> Any:
    return rungs()["native"]


def clipped(op: Any, tensors: Any) -> bool:
    """Whether the library took the tensors."""
    return op.clip_if_usual(tensors, 1.0) is not None


def test_usual_lists_are_read(op: Any) -> None:
    assert clipped(op, mixed()) and clipped(op, tuple(mixed()))
    assert clipped(op, [torch.nn.Parameter(torch.ones(3), requires_grad=False)])
    with torch.no_grad():
        assert clipped(op, [torch.ones(3, requires_grad=True)])
    room = torch.ones(20)
    assert clipped(op, [room[4:8], room[:4], room[8:]]), "neighbours share nothing"
    with torch.inference_mode():
        assert clipped(op, [torch.ones(3)])


def freed(start: int) -> Tensor:
    tensor = torch.ones(8)[start:]
    tensor.untyped_storage().resize_(0)
    return tensor


def inference() -> Tensor:
    with torch.inference_mode():
        return torch.ones(3)


class Mine(Tensor):
    """A subclass, which may do anything."""


UNUSUAL_TENSORS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "a number": lambda: 1.0,
    "strided": lambda: torch.ones(4, 6).T,
    "negated": lambda: torch._neg_view(torch.ones(3)),
    "a leaf": lambda: torch.ones(3, requires_grad=True),
    "freed": lambda: freed(0),
    "freed behind an offset": lambda: freed(3),
    "of inference": inference,
    "a subclass": lambda: torch.ones(3).as_subclass(Mine),
    "double": lambda: torch.ones(3).double(),
    "int": lambda: torch.ones(3).int(),
    "meta": lambda: torch.ones(3, device="meta"),
    "sparse": lambda: torch.ones(3).to_sparse(),
    "complex": lambda: torch.ones(3, dtype=torch.complex64),
}


@pytest.mark.parametrize("name", UNUSUAL_TENSORS)
def test_unusual_tensors_are_left_alone(op: Any, name: str) -> None:
    for place in (0, 2):
        tensors = [torch.full((9,), 5.0), torch.ones(3)]
        tensors.insert(place, UNUSUAL_TENSORS[name]())
        assert not clipped(op, tensors)
        assert bool((tensors[1 if place == 0 else 0] == 5.0).all())


def test_watchers_are_unusual(op: Any) -> None:
    tensors = [torch.ones(3)]
    with torch.profiler.profile():
        assert not clipped(op, tensors)
    with torch.autograd.forward_ad.dual_level():
        assert not clipped(op, tensors)
    assert not clipped(op, [torch.ones(3), torch.ones(3)] * 2 + tensors * 2)
    assert not clipped(op, iter(tensors)) and not clipped(op, [])
    assert op._clip.quickly(tensors, 1, False) is UNUSUAL


blocks = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(blocks, blocks, blocks, st.randoms(), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_the_look_at_overlaps_is_the_checks(
    op: Any, xs: Any, ys: Any, outputs: Any, order: random.Random, in_place: Any
) -> None:
    """Whatever blocks of one memory are read and written: the library takes what checks pass."""
    room = torch.zeros(50)
    count = min(map(len, (xs, ys, outputs)))
    sizes = [size for _, size in outputs[:count]]

    def cut(blocks: Any) -> list[Tensor]:
        return [room[start : start + size] for (start, _), size in zip(blocks, sizes, strict=False)]

    given = [cut(one) for one in (xs, ys, outputs)]
    for at, where in enumerate(in_place[:count]):
        for which in (0, 1):
            if where >> which & 1:
                given[which][at] = given[2][at]
    call = (flag(), *given, 1.0, 2.0, -1)
    checks = CallChecks(Axpby.parsed, Axpby.same, Axpby.types, Axpby.paired, Axpby.in_place)
    try:
        checks.check_memory(call)
        right = True
    except ValueError:
        right = False
    assert (op._axpby.quickly(*call) is not UNUSUAL) == right


def test_a_flag_among_the_outputs_is_unusual(op: Any) -> None:
    room = torch.zeros(8)
    noop = room.view(torch.int32)[2:3]
    assert op._scale.quickly(noop, [torch.ones(4)], [room[:4]], 1.0) is UNUSUAL
    assert op._scale.quickly(noop, [torch.ones(4)], [room[4:]], 1.0) is None


def test_many_tensors_in_any_order(op: Any) -> None:
    room = torch.randn(3000 * 4)
    tensors = [*room.split(4)]
    random.Random(1).shuffle(tensors)
    outputs = [torch.empty(4) for _ in tensors]
    assert op._scale.quickly(flag(), tensors, outputs, 2.0) is None
    assert same_bits(outputs, [one * 2 for one in tensors])
    assert op._scale.quickly(flag(), tensors, tensors, 2.0) is None
    assert same_bits(outputs, tensors)
    tensors[7] = room[5:9]
    assert op._scale.quickly(flag(), tensors, tensors, 2.0) is UNUSUAL
    assert not clipped(op, tensors)


def test_without_the_interpreters_help_python_looks(
    op: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torch without DLPack's exchange table: slower, and the same."""
    assert MultiTensor.notes("cpu") == ("The library checks every tensor of a usual call.",)
    monkeypatch.setattr(python_api, "python_api", lambda: "no table")
    monkeypatch.setattr(reading, "python_api", lambda: "no table")
    bare = MultiTensor(acquire(MultiTensorBuilder().recipe()))
    assert bare._clip._reader is None and MultiTensor.notes("cpu")[0].endswith("no table.")
    ours, theirs = mixed(), mixed()
    assert torch.equal(bare.multi_tensor_clip(ours, 0.5), op.multi_tensor_clip(theirs, 0.5))
    assert same_bits(ours, theirs)
