"""Moving an optimizer's states to their places in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from accel.errors import Unsupported
from accel.optim.entries import check_entry, entries_of
from accel.optim.policy import MASTER, state_dtype_for, wants_master
from accel.optim.state import add_place
from accel.optim.swap.extent import Extent, Fields, Slot, strides

if TYPE_CHECKING:
    from accel.optim.stepped import SteppedOptimizer
    from accel.optim.swap.store import Store

Group = dict[str, Any]
_HOST = torch.device("cpu")


class _Move(NamedTuple):
    """A state on its way to its place; `source` is ``None`` for one that does not exist yet."""

    param: Tensor
    key: str
    slot: Slot
    fresh: bool
    source: Tensor | None


def settle(
    store: Store,
    optimizer: SteppedOptimizer,
    index: int,
    params: Sequence[Tensor],
    places: Sequence[int],
) -> None:
    """Give parameters of a group their places in files, and move their states there.

    States that do not exist are made as they are before the first step.

    Args:
        store: the files.
        optimizer: the optimizer.
        index: the number of the group.
        params: the parameters.
        places: their indices in the group, for errors.

    Raises:
        TypeError, ValueError: an entry of the state cannot be used, named.
        Unsupported: a parameter is not on the host, or distributed.
        SwapFailed: there is no space, or a file cannot be made.
    """
    group = optimizer.param_groups[index]
    store.keep_only({param for one in optimizer.param_groups for param in one["params"]})
    wanted = {}
    for place, param in zip(places, params, strict=True):
        try:
            wanted[param] = _fields(optimizer, group, param)
        except (TypeError, ValueError) as error:
            add_place(error, f"params[{place}]")
            raise
    fitting = [p for p in params if _fits(store.slots.get(p), p, wanted[p], index)]
    kept = {*fitting}
    moving = [param for param in params if param not in kept]
    stale = [param for param in fitting if not is_placed(store, optimizer, param)]
    if not moving and not stale:
        return
    made: list[Extent] = []
    try:
        store.touch()
        fresh = dict(_allocate(store, moving, wanted, index, made))
        # New files come first: to fill the others may overwrite what is copied into new ones.
        for move in _moves(store, optimizer, [*moving, *stale], wanted, fresh):
            _fill(store, optimizer, group, move)
        store.place(fresh)
    except BaseException as error:
        for extent in made:
            store.remove(extent)
        if isinstance(error, OSError):
            raise store.refusal(error) from None
        raise
    finally:
        store.settled()
    for param in (*moving, *stale):
        optimizer.state[param].update(store.slots[param].tensors)


def is_placed(store: Store, optimizer: SteppedOptimizer, param: Tensor) -> bool:
    """Return whether the parameter's states are the tensors in its place."""
    slot, state = store.slots.get(param), optimizer.state.get(param)
    if slot is None or not isinstance(state, dict):
        return False
    return all(state.get(key) is tensor for key, tensor in slot.tensors.items())


def _fields(optimizer: SteppedOptimizer, group: Group, param: Tensor) -> Fields:
    """Return the keys and types of a parameter's states, after a check of those that exist."""
    if type(param) is not Tensor and type(param) is not Parameter:
        raise Unsupported(
            f"swap_dir: a parameter is a {type(param).__name__}, and states in files need ordinary "
            f"tensors; leave swap_dir out."
        )
    if param.device.type != "cpu":
        raise Unsupported(
            f"swap_dir: a parameter is on {param.device}, and states in files need parameters on "
            f"the host; leave swap_dir out."
        )
    state = entries_of(optimizer.state, param)
    fields = [(key, state_dtype_for(param, group)) for key in optimizer.state_keys(group)]
    if wants_master(param, group, _HOST):
        fields.append((MASTER, torch.float32))
    for key, _ in fields:
        if key in state:
            check_entry(state, key, param, optimizer.local)
    return tuple(fields)


def _fits(slot: Slot | None, param: Tensor, fields: Fields, index: int) -> bool:
    """Return whether a place is one for these states."""
    if slot is None or slot.extent.fields != fields or slot.extent.group != index:
        return False
    tensor = next(iter(slot.tensors.values()))
    return tensor.shape == param.shape and tensor.stride() == strides(param)


def _allocate(
    store: Store,
    params: Sequence[Tensor],
    wanted: dict[Tensor, Fields],
    index: int,
    made: list[Extent],
) -> Iterator[tuple[Tensor, Slot]]:
    """Yield parameters with their places in new files, which are added to `made`."""
    by_fields: dict[Fields, list[Tensor]] = {}
    for param in params:
        by_fields.setdefault(wanted[param], []).append(param)
    for fields, listed in by_fields.items():
        extent = store.extent(fields, listed, index)
        made.append(extent)
        yield from zip(listed, extent.slots, strict=True)


def _moves(
    store: Store,
    optimizer: SteppedOptimizer,
    params: Sequence[Tensor],
    wanted: dict[Tensor, Fields],
    fresh: dict[Tensor, Slot],
) -> Iterator[_Move]:
    """Return the states that are not in their place."""
    moves = []
    for param in params:
        slot = fresh.get(param) or store.slots[param]
        for key, _ in wanted[param]:
            source = optimizer.state[param].get(key)
            if source is slot.tensors[key]:
                continue
            if source is not None and param not in fresh:
                # Its memory may be the place of a state that is written before it is read.
                inside = any(extent.holds(source) for extent in store.extents)
                source = source.clone() if inside else source
            moves.append(_Move(param, key, slot, param in fresh, source))
    return iter(moves)


def _fill(store: Store, optimizer: SteppedOptimizer, group: Group, move: _Move) -> None:
    """Write a state to its place."""
    param, key, slot, fresh, source = move
    tensor = slot.tensors[key]
    end = slot.start + slot.numel
    if source is None and key != MASTER:
        one = torch.empty(1, dtype=param.dtype, device="cpu")
        value = float(optimizer.new_state(key, one, group, tensor.dtype))
        if value or not fresh:
            store.stream.fill(slot.extent, key, slot.start, end, value)
        return
    whole = (param if source is None else source).detach()
    if whole.stride() != tensor.stride() or whole.is_neg() or whole.device != tensor.device:
        tensor.copy_(whole)
        return
    flat = whole.as_strided((whole.numel(),), (1,))
    store.stream.fill(slot.extent, key, slot.start, end, flat)
