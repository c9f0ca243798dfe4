"""`Watch`: the checked properties of a plan's tensors, compared again before each step."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import eq
from typing import Any, NamedTuple

import torch
from torch import Tensor

from accel.ops.checks import check_no_overlap, lacks_memory
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.prepared.plan import Plan
from accel.ops.optimizers.prepared.table import Occupied, addresses
from accel.ops.overlap import extent

_layout_of: Callable[[Tensor], torch.layout] = Tensor.layout.__get__  # type: ignore[attr-defined]
_dtype_of: Callable[[Tensor], torch.dtype] = Tensor.dtype.__get__  # type: ignore[attr-defined]
_device_of: Callable[[Tensor], torch.device] = Tensor.device.__get__
_shape_of: Any = Tensor.shape.__get__  # type: ignore[attr-defined]
_requires_grad: Callable[[Tensor], bool] = Tensor.requires_grad.__get__  # type: ignore[attr-defined]
_ASKED: tuple[Callable[[Tensor], Any], ...] = (
    type, _dtype_of, _device_of, _shape_of, Tensor.stride, Tensor.is_neg,
)  # fmt: skip
_STRIDED = {torch.strided}


class Seen(NamedTuple):
    """One tensor of a step, and the entry for its address in the native call.

    Attributes:
        tensor: the tensor.
        slot: the address of the call's entry for it.
        own_layout: whether its shape differs from its parameter's; it is then contiguous.
    """

    tensor: Tensor
    slot: int
    own_layout: bool = False


class Watch:
    """The facts about a plan's tensors at the time of their check.

    It holds addresses and facts, but no tensors.

    Args:
        plan: their plan.
        tensors: the checked lists.
    """

    def __init__(self, plan: Plan, tensors: TensorLists) -> None:
        self._plan = plan
        lists = tensors.by_field()
        self._facts = facts(lists)
        self._at = {field: addresses(listed) for field, listed in lists.items()}
        self._occupied = Occupied(chain.from_iterable(tensors.written().values()))
        extents = [extent(grad) for grad in tensors.grads]
        self._grads_reach = array("q", [stop - start for start, stop in extents])

    def take(self, tensors: TensorLists) -> bool:
        """Put other tensors into the plan; ``False``, with nothing changed, if they do not fit it.

        They fit if they differ from the checked tensors only in their addresses.

        Raises:
            ValueError: two of them share memory that a step writes.
        """
        lists = tensors.by_field()
        # A tensor that is not strided has no strides.
        if not _STRIDED.issuperset(map(_layout_of, chain.from_iterable(lists.values()))):
            return False
        if any(map(_requires_grad, tensors.grads)) or not _agree(lists, self._facts):
            return False
        at = {field: addresses(listed) for field, listed in lists.items()}
        moved = [field for field, pointers in at.items() if pointers != self._at[field]]
        # A kernel would write it although it must not be written; preparing again names it.
        if _has_inference(lists, lists if self._plan.rest else moved):
            return False
        for field in moved:
            places = zip(at[field], self._at[field], lists[field], strict=True)
            if any(now != before and _lacks_memory(now, tensor) for now, before, tensor in places):
                return False
        # Preparing again names the two that share one.
        if "steps" in moved and len({*at["steps"]}) != len(at["steps"]):
            return False
        if moved:
            self._check_overlap(tensors, moved, at["grads"])
        # All addresses are replaced, because a native watch writes addresses, too.
        for field, pointers in at.items():
            self._plan.put(field, pointers)
        self._at = at
        return True

    def written(self) -> list[tuple[int, int]]:
        """Return the memory that a step writes, except step counters; see `Occupied.blocks`."""
        return [*self._occupied.blocks()]

    def _check_overlap(self, tensors: TensorLists, moved: list[str], grads_at: array[int]) -> None:
        written = tensors.written()
        if moved != ["grads"] or self._occupied.meets(grads_at, self._grads_reach):
            check_no_overlap(written, {"grads": tensors.grads})
            self._occupied = Occupied(chain.from_iterable(written.values()))


def facts(lists: Mapping[str, Sequence[Tensor]]) -> list[list[Any]]:
    """Return the properties of tensors on which a plan relies, except their addresses."""
    return [[*map(ask, listed)] for listed in lists.values() for ask in _ASKED]


def _agree(lists: Mapping[str, Sequence[Tensor]], known: Sequence[Sequence[Any]]) -> bool:
    """Return whether the `facts` of tensors equal known ones, without storing them."""
    asked = ((listed, ask) for listed in lists.values() for ask in _ASKED)
    try:
        return all(
            len(listed) == len(wanted) and all(map(eq, map(ask, listed), wanted))
            for (listed, ask), wanted in zip(asked, known, strict=True)
        )
    except RuntimeError:  # A nested tensor reports a strided layout, but has no shape.
        return False


def _has_inference(lists: Mapping[str, Sequence[Tensor]], fields: Iterable[str]) -> bool:
    """Return whether a written tensor is of inference mode, outside of which it must not change."""
    if torch.is_inference_mode_enabled():
        return False
    return any(
        tensor.is_inference() for field in fields if field != "grads" for tensor in lists[field]
    )


def _lacks_memory(pointer: int, tensor: Tensor) -> bool:
    return (not pointer and tensor.numel() > 0) or lacks_memory(tensor)
