"""Batches of a step's tensors: many small ones are stepped as one, a large one in pieces.

A reference costs calls of torch's operators, about twenty a batch, more than arithmetic. So tensors
of one shape are stacked, and contiguous ones of different shapes are laid end to end. A tensor that
is larger than a batch is cut, which bounds the memory that a step takes for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from accel.ops.checks import is_dense
from accel.ops.lists import Hyper, TensorLists
from accel.ops.reference import Scalar, exactly
from accel.ops.rounding import element_numbers, random_key, random_keys, rounded, store

_dtype_of: Callable[[Tensor], torch.dtype] = Tensor.dtype.__get__  # type: ignore[attr-defined]
_device_of: Callable[[Tensor], torch.device] = Tensor.device.__get__
_shape_of: Callable[[Tensor], torch.Size] = Tensor.shape.__get__  # type: ignore[attr-defined]
_is_on_host: Callable[[Tensor], bool] = Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_PLAIN = {Tensor, Parameter}
_SERIAL = (1 << 15) - 1
"""The most elements on which torch's operators keep one thread of the host busy, not several."""

_HOST = 1 << 16
"""Elements of a piece for each thread of the host: what a step makes of it stays in the cache."""

_DEVICE = 1 << 21
"""Elements of a batch elsewhere: an operator keeps a device busy for as long as it is launched."""

_NOISE = 4
"""How many times the memory of a rounded-to-nearest element a randomly rounded one takes."""


class Batch:
    """Tensors that are stepped at once: here one, of any kind and layout.

    Attributes:
        tensors: their lists.
        time: the number of the step, as a tensor with one element for each where a device knows it.

    Args:
        tensors: see above.
        time: the number of the step; ``None``: that after those that the tensors have done.
        ahead: how many steps that is after them.
    """

    def __init__(self, tensors: TensorLists, time: float | None, ahead: float) -> None:
        self.tensors = tensors
        self.time: Scalar = self._time(ahead) if time is None else time

    def _time(self, ahead: float) -> Tensor:
        assert self.tensors.steps is not None
        return exactly(self.tensors.steps[0]) + ahead

    @property
    def wide(self) -> torch.dtype:
        """The type of the computation."""
        return torch.float64 if self.tensors.params[0].dtype == torch.float64 else torch.float32

    def read(self, role: str) -> Tensor:
        """Return a role's values in the type of the computation; not to be written."""
        return self.tensors.roles[role][0].to(self.wide)

    def spread(self, scalar: Scalar) -> Scalar:
        """Return a number of each tensor such that it meets that tensor's elements in `read`."""
        return scalar

    def write(self, role: str, values: Tensor) -> None:
        """Store values that are as `read` returns them."""
        self.tensors.roles[role][0].copy_(values)

    def round(self, role: str, values: Tensor, hyper: Hyper, stream: int) -> None:
        """Store values, rounded as a step says, by random bits of a stream of each tensor."""
        target, number = self.tensors.roles[role][0], self.tensors.numbers[0]
        key = random_key(hyper.seed, self.time, number, stream)
        store(target, values, hyper.rounding, key, self.tensors.start(0))


class _Together(Batch):
    """Several tensors, alike in device, element types and, if a host knows it, step."""

    def _time(self, ahead: float) -> Tensor:
        assert self.tensors.steps is not None
        return exactly(torch.stack([step.reshape(()) for step in self.tensors.steps])) + ahead

    def spread(self, scalar: Scalar) -> Scalar:
        return self.each(scalar) if isinstance(scalar, Tensor) and scalar.dim() else scalar

    def round(self, role: str, values: Tensor, hyper: Hyper, stream: int) -> None:
        target = self.tensors.roles[role][0]
        if hyper.rounding != "nearest" and target.element_size() == 2:
            keys = random_keys(hyper.seed, self.time, self._numbers(), stream)
            values = rounded(values, target.dtype, self.each(keys), self._elements(role))
        self.write(role, values)

    def _numbers(self) -> Tensor:
        """Return the tensors' numbers, without a copy from the host, for which a device waits."""
        numbers, device = self.tensors.numbers, self.tensors.params[0].device
        first, count = numbers[0], len(numbers)
        if device.type == "cpu":
            return torch.tensor(numbers, dtype=torch.int64, device=device)
        if [*numbers] == [*range(first, first + count)]:
            return torch.arange(first, first + count, dtype=torch.int64, device=device)
        return torch.stack([torch.full((), n, dtype=torch.int64, device=device) for n in numbers])

    def each(self, vector: Tensor) -> Tensor:
        """Return a vector of one entry for each tensor as `spread` does."""
        raise NotImplementedError

    def _elements(self, role: str) -> Tensor:
        """Return the elements' numbers in their tensors."""
        raise NotImplementedError


class _Stacked(_Together):
    """Tensors of one shape, if need be of one layout, along a new first dimension."""

    def read(self, role: str) -> Tensor:
        return torch.stack([*self.tensors.roles[role]]).to(self.wide)

    def write(self, role: str, values: Tensor) -> None:
        torch._foreach_copy_([*self.tensors.roles[role]], values.unbind())

    def each(self, vector: Tensor) -> Tensor:
        return vector.view(-1, *[1] * self.tensors.params[0].dim())

    def _elements(self, role: str) -> Tensor:
        return element_numbers(self.tensors.roles[role][0]) + self.tensors.start(0)


class _Joined(_Together):
    """Contiguous tensors end to end."""

    def __init__(self, tensors: TensorLists, time: float | None, ahead: float) -> None:
        flat: dict[str, Sequence[Tensor]] = {
            role: [*map(_flat, listed)] for role, listed in tensors.roles.items()
        }
        super().__init__(
            TensorLists(flat, tensors.steps, None, tensors.numbers, tensors.starts), time, ahead
        )
        self._sizes = [tensor.numel() for tensor in tensors.params]

    def read(self, role: str) -> Tensor:
        return torch.cat([*self.tensors.roles[role]]).to(self.wide)

    def write(self, role: str, values: Tensor) -> None:
        torch._foreach_copy_([*self.tensors.roles[role]], torch.split(values, self._sizes))

    def each(self, vector: Tensor) -> Tensor:
        entries = zip(vector.unbind(), self._sizes, strict=True)
        return torch.cat([entry.expand(size) for entry, size in entries])

    def _elements(self, role: str) -> Tensor:
        listed = self.tensors.roles[role]
        numbers = [element_numbers(t) + self.tensors.start(i) for i, t in enumerate(listed)]
        return torch.cat(numbers)


def _flat(tensor: Tensor) -> Tensor:
    return tensor if tensor.dim() == 1 else tensor.view(-1)


def batches(
    tensors: TensorLists, hyper: Hyper, *, back: bool = False, cut: bool = True
) -> Iterator[Batch]:
    """Yield the tensors that have elements in batches.

    Args:
        tensors: the lists.
        hyper: the numbers of the step.
        back: whether the step is one that the tensors' counters have counted.
        cut: whether a large tensor may be stepped in pieces.
    """
    ahead = 0.0 if back else 1.0
    times = _host_times(tensors, hyper, ahead)
    roles = [*tensors.roles.values()]
    noisy = hyper.rounding != "nearest"
    loose: dict[Any, list[int]] = {}
    for key, indices in _alike(tensors, times, noisy).items():
        first = tensors.params[indices[0]]
        room = _room(first.device, noisy)
        size = first.numel()
        if key is None or size > room // 2:
            for index in indices:
                most = _piece(tensors.params[index].device, noisy) if cut else 0
                yield from _alone(tensors, index, times[index], ahead, most)
        elif (
            size and len(indices) == 1 and _are_contiguous([listed[indices[0]] for listed in roles])
        ):
            # All but shape and layout decides on who may lie next to whom.
            loose.setdefault(key[:3], []).extend(indices)
        elif size:
            for at in range(0, len(indices), room // size):
                yield _made(_Stacked, tensors, indices[at : at + room // size], times, ahead)
    for indices in loose.values():
        room = _room(tensors.params[indices[0]].device, noisy)
        for chosen in _filled(tensors.params, indices, room):
            yield _made(_Joined, tensors, chosen, times, ahead)


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
    """Return how many elements tensors that are stepped at once may have together.

    On the host several threads gain little here, and lose much where other programs keep it busy.
    """
    return _SERIAL if device.type == "cpu" else _piece(device, noisy)


def _alike(
    tensors: TensorLists, times: Sequence[float | None], noisy: bool
) -> dict[Any, Sequence[int]]:
    """Sort the tensors' indices by what makes them fit into one batch: device, types, step, shape.

    Under ``None`` are those that go by themselves.
    """
    params, roles = tensors.params, [*tensors.roles.values()]
    types = zip(*(map(_dtype_of, listed) for listed in roles), strict=True)
    keys: Iterable[Any] = zip(
        map(_device_of, params), types, times, map(_shape_of, params), strict=True
    )
    if noisy:
        strides = zip(*(map(Tensor.stride, listed) for listed in roles), strict=True)
        starts = map(tensors.start, range(len(params)))
        keys = ((*key, *more) for key, *more in zip(keys, strides, starts, strict=True))
    if not _PLAIN.issuperset(map(type, chain.from_iterable(roles))):
        kinds = zip(*(map(type, listed) for listed in roles), strict=True)
        keys = (key if _PLAIN.issuperset(k) else None for key, k in zip(keys, kinds, strict=True))
    sorted_out: dict[Any, list[int]] = {}
    for index, key in enumerate(keys):
        sorted_out.setdefault(key, []).append(index)
    return {**sorted_out}


def _filled(params: Sequence[Tensor], indices: Sequence[int], room: int) -> Iterator[Sequence[int]]:
    """Yield as many of the indices at a time as tensors have room."""
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
    """Yield one tensor: nothing of no elements, pieces of one larger than `room` unless that is 0.

    Pieces need the memory of all roles to be filled, in one order.
    """
    one = tensors.select([index])
    members = [listed[0] for listed in one.roles.values()]
    size = members[0].numel()
    if not size:
        return
    if not room or size <= room or not _lie_alike(members):
        yield Batch(one, time, ahead)
        return
    # In the order of the memory, in which random bits number the elements too.
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
    """Return whether tensors of one shape fill their memory, all in one order."""
    strides = members[0].stride()
    return _PLAIN.issuperset(map(type, members)) and (
        _are_contiguous(members)
        or (is_dense(members[0]) and all(member.stride() == strides for member in members))
    )


def _are_contiguous(members: Iterable[Tensor]) -> bool:
    return all(member.is_contiguous() for member in members)


def _host_times(tensors: TensorLists, hyper: Hyper, ahead: float) -> list[float | None]:
    """Return every tensor's number of the step; ``None`` where a device knows it."""
    steps = tensors.steps
    if steps is None:
        return [float(hyper.step)] * len(tensors.params)
    plain = _PLAIN.issuperset(map(type, steps)) and all(map(_is_on_host, steps))
    if plain and len({*map(Tensor.dim, steps)}) == 1:
        return [count + ahead for count in torch.stack([*steps]).view(-1).tolist()]
    return [float(step) + ahead if step.device.type == "cpu" else None for step in steps]
