"""Batches of a step's tensors: many small ones are stepped as one, a large one in pieces.

The cost of a reference is in the calls of torch's operators, about twenty per batch, more than in
the arithmetic. So tensors of one shape are stacked, and contiguous ones of different shapes are
joined end to end. A tensor larger than a batch is cut, which bounds the step's temporary memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from accel.ops.checks import is_dense
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.reference.batch import Batch, Joined, Stacked

_dtype_of: Callable[[Tensor], torch.dtype] = Tensor.dtype.__get__  # type: ignore[attr-defined]
_device_of: Callable[[Tensor], torch.device] = Tensor.device.__get__
_shape_of: Callable[[Tensor], torch.Size] = Tensor.shape.__get__  # type: ignore[attr-defined]
_is_on_host: Callable[[Tensor], bool] = Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_PLAIN = {Tensor, Parameter}
_SERIAL = (1 << 15) - 1
"""The largest number of elements for which torch's operators use only one thread of the host."""

_HOST = 1 << 16
"""Elements of a piece for each thread of the host, so that temporary values stay in the cache."""

_DEVICE = 1 << 21
"""Elements of a batch on a device, so that an operator runs at least as long as its launch."""

_NOISE = 2
"""The memory for an element with stochastic rounding, relative to one with nearest rounding."""


def batches(
    tensors: TensorLists, hyper: Hyper, *, back: bool = False, whole: bool = False
) -> Iterator[Batch]:
    """Yield the tensors in batches, those without elements left out.

    Args:
        tensors: the lists.
        hyper: the numbers of the step.
        back: whether the tensors' counters already include this step.
        whole: whether the op needs each tensor as a whole, even empty ones; then none is cut, and
            only contiguous ones are combined.
    """
    ahead = 0.0 if back else 1.0
    times = _host_times(tensors, hyper, ahead)
    roles = [*tensors.roles.values()]
    noisy = hyper.rounding != "nearest"
    loose: dict[Any, list[int]] = {}
    for key, indices in _alike(tensors, times, noisy or whole).items():
        first = tensors.params[indices[0]]
        room = _room(first.device, noisy)
        size = first.numel()
        contiguous = _are_contiguous([listed[indices[0]] for listed in roles])
        apart = whole and not (size and contiguous)
        if key is None or apart or size > room // 2:
            for index in indices:
                most = 0 if whole else _piece(tensors.params[index].device, noisy)
                yield from _alone(tensors, index, times[index], ahead, most)
        elif size and len(indices) == 1 and contiguous:
            # Tensors may be joined if all but their shapes and layouts agree.
            loose.setdefault(key[:3], []).extend(indices)
        elif size:
            for at in range(0, len(indices), room // size):
                yield _made(Stacked, tensors, indices[at : at + room // size], times, ahead)
    for indices in loose.values():
        room = _room(tensors.params[indices[0]].device, noisy)
        for chosen in _filled(tensors.params, indices, room):
            yield _made(Joined, tensors, chosen, times, ahead)


def _made(
    kind: type[Batch],
    tensors: TensorLists,
    chosen: Sequence[int],
    times: Sequence[float | None],
    ahead: float,
) -> Batch:
    taken = tensors if len(chosen) == len(times) else tensors.select(chosen)
    return (Batch if len(chosen) == 1 else kind)(taken, times[chosen[0]], ahead)


def _piece(device: torch.device, noisy: bool) -> int:
    """Return how many elements a piece of a tensor may have."""
    most = _HOST * max(2, torch.get_num_threads()) if device.type == "cpu" else _DEVICE
    return min(most, _DEVICE) // (_NOISE if noisy else 1)


def _room(device: torch.device, noisy: bool) -> int:
    """Return how many elements the tensors of one batch may have together.

    On the host, several threads gain little here, and lose much if other programs keep it busy.
    """
    return _SERIAL if device.type == "cpu" else _piece(device, noisy)


def _alike(
    tensors: TensorLists, times: Sequence[float | None], by_layout: bool
) -> dict[Any, Sequence[int]]:
    """Group the tensors' indices by the properties of a batch: device, types, step, shape.

    The key ``None`` has the tensors that are stepped alone.
    """
    params, roles = tensors.params, [*tensors.roles.values()]
    types = zip(*(map(_dtype_of, listed) for listed in roles), strict=True)
    keys: Iterable[Any] = zip(
        map(_device_of, params), types, times, map(_shape_of, params), strict=True
    )
    if by_layout:
        strides = zip(*(map(Tensor.stride, listed) for listed in roles), strict=True)
        starts = map(tensors.start, range(len(params)))
        keys = ((*key, *more) for key, *more in zip(keys, strides, starts, strict=True))
    members = [*roles, *tensors.extras.values()]
    if not all(map(_are_ordinary, members)):
        fit = map(_are_ordinary, zip(*members, strict=True))
        keys = (key if fits else None for key, fits in zip(keys, fit, strict=True))
    sorted_out: dict[Any, list[int]] = {}
    for index, key in enumerate(keys):
        sorted_out.setdefault(key, []).append(index)
    return {**sorted_out}


def _filled(params: Sequence[Tensor], indices: Sequence[int], room: int) -> Iterator[Sequence[int]]:
    """Yield the indices in portions whose tensors have at most `room` elements."""
    start, size = 0, 0
    for at, index in enumerate(indices):
        numel = params[index].numel()
        if size and size + numel > room:
            yield indices[start:at]
            start, size = at, 0
        size += numel
    yield indices[start:]


def _alone(
    tensors: TensorLists, index: int, time: float | None, ahead: float, room: int
) -> Iterator[Batch]:
    """Yield one tensor as it is if `room` is 0; else nothing if it is empty, and pieces if large.

    Pieces need dense memory with one order of elements in all roles.
    """
    one = tensors.select([index])
    members = [listed[0] for listed in one.roles.values()]
    size = members[0].numel()
    if not room or (size and (size <= room or not _lie_alike(members))):
        yield Batch(one, time, ahead)
        return
    if not size:
        return
    # In the order of memory, which is also the order of random bits.
    length = -(-size // -(-size // room))
    pieces = {
        role: torch.split(listed[0].as_strided((size,), (1,)), length)
        for role, listed in one.roles.items()
    }
    for number in range(len(pieces["params"])):
        roles: dict[str, Sequence[Tensor]] = {role: [cut[number]] for role, cut in pieces.items()}
        start = one.start(0) + number * length
        piece = TensorLists(roles, one.steps, None, one.numbers, [start])
        yield Batch(piece, time, ahead)


def _lie_alike(members: Sequence[Tensor]) -> bool:
    """Return whether tensors of one shape are dense, all with one order of elements."""
    strides = members[0].stride()
    return _are_ordinary(members) and (
        _are_contiguous(members)
        or (is_dense(members[0]) and all(member.stride() == strides for member in members))
    )


def _are_ordinary(members: Sequence[Tensor]) -> bool:
    """Return whether tensors are of torch's own types, and none is a negated view.

    Operators over lists refuse to write such views.
    """
    return _PLAIN.issuperset(map(type, members)) and not any(map(Tensor.is_neg, members))


def _are_contiguous(members: Iterable[Tensor]) -> bool:
    return all(member.is_contiguous() for member in members)


def _host_times(tensors: TensorLists, hyper: Hyper, ahead: float) -> list[float | None]:
    """Return every tensor's number of the step; ``None`` if it is on a device."""
    steps = tensors.steps
    if steps is None:
        return [float(hyper.step)] * len(tensors.params)
    plain = _PLAIN.issuperset(map(type, steps)) and all(map(_is_on_host, steps))
    if plain and len({*map(Tensor.dim, steps)}) == 1:
        return [count + ahead for count in torch.stack([*steps]).view(-1).tolist()]
    return [float(step) + ahead if step.device.type == "cpu" else None for step in steps]
