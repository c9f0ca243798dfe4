"""`OffloadedGroup`: steps on the host of parameters on a device, overlapped with transfers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.current import accelerator_for
from accel.ops import checks
from accel.ops.optimizers.kernel import Kernel
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.prepared.plan import Plan
from accel.ops.optimizers.prepared.table import addresses
from accel.ops.optimizers.prepared.watch import facts
from accel.optim.offload.transfers import Transfers
from accel.optim.policy import MASTER
from accel.optim.state import complete_states

if TYPE_CHECKING:
    from accel.optim.stepped import SteppedOptimizer

Group = dict[str, Any]
Found = dict[str, Sequence[Tensor]]
Grads = Sequence[Tensor | None]
BUCKET = 1 << 24
"""Elements that are transferred and stepped together; two such buckets are in flight."""

_ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements `start` to `stop` of tensor `index`, at `offset` in their bucket."""

    index: int
    start: int
    stop: int
    offset: int


def cut(numels: Sequence[int], bucket: int) -> Iterator[list[Piece]]:
    """Yield buckets of at most `bucket` elements that cover tensors of these sizes, in order."""
    pieces: list[Piece] = []
    offset = 0
    for index, numel in enumerate(numels):
        start = 0
        while start < numel:
            room = bucket - offset
            if room <= 0:
                yield pieces
                pieces, offset, room = [], 0, bucket
            stop = min(numel, start + room)
            pieces.append(Piece(index, start, stop, offset))
            offset += -(-(stop - start) // _ALIGNMENT) * _ALIGNMENT
            start = stop
    if pieces:
        yield pieces


class OffloadedGroup:
    """The parameters of a group on one device and of one pair of types, stepped on the host.

    Master copies and states are on the host. Gradients are copied to the host in buckets, and
    rounded parameters back, each direction on its own stream, while the host steps the bucket
    between them. Between steps it holds buffers, but none of the user's tensors.

    Args:
        optimizer: the group's optimizer; the group's states are made complete.
        group: the parameter group.
        places: the indices of the parameters in the group.
        params: parameters of one device and dtype, dense.
        grads: their gradients, of one dtype.
        kernel: the host's kernel.

    Raises:
        TypeError, ValueError: a tensor cannot be stepped, named.
    """

    def __init__(
        self,
        optimizer: SteppedOptimizer,
        group: Group,
        places: Sequence[int],
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        kernel: Kernel,
    ) -> None:
        self._kernel = kernel
        self._places = places
        states = {key: optimizer.states[key] for key in optimizer.state_keys(group)}
        self._fields = {**states, MASTER: "masters"}
        completed = complete_states(optimizer, group, params, places)
        for param, state in zip(params, completed, strict=True):
            for key in self._fields:
                state[key] = _fitting(state[key], key, param)
        self._dtypes = (params[0].dtype, grads[0].dtype)
        self._buckets = list(cut([param.numel() for param in params], BUCKET))
        spans = [[(p.offset, p.offset + _span(p)) for p in pieces] for pieces in self._buckets]
        device = params[0].device
        self._transfers = Transfers(accelerator_for(device), device, self._dtypes, spans)
        numbers = range(len(self._buckets))
        self._in = [self._staged(number, self._transfers.grads(number)) for number in numbers]
        self._out = [self._staged(number, self._transfers.params(number)) for number in numbers]
        self._steps = [_counters(len(pieces)) for pieces in self._buckets]
        found = self._find(optimizer, params)
        if found is None:
            raise TypeError(f"A state of {type(optimizer).__name__} is not a tensor.")
        self._plan(found)

    def _find(self, optimizer: SteppedOptimizer, params: Sequence[Tensor]) -> Found | None:
        """Return the parameters and states; ``None`` if a state lacks a tensor."""
        found = [optimizer.state.get(param) for param in params]
        states = [state if isinstance(state, dict) else {} for state in found]
        lists: Found = {"params": list(params)}
        for key, field in (*self._fields.items(), ("step", "steps")):
            lists[field] = [state.get(key) for state in states]  # type: ignore[misc]
        if not all(isinstance(tensor, Tensor) for listed in lists.values() for tensor in listed):
            return None
        return lists

    def _plan(self, found: Found) -> None:
        """Make the buckets' plans for tensors that have been checked."""
        names = {field: f"state[{key!r}]" for key, field in self._fields.items()}
        for field, listed in found.items():
            for tensor in listed:
                checks.check_storage(tensor, names.get(field, field))
        checks.check_no_overlap(found, {})
        self._facts, self._at = facts(found), {name: addresses(found[name]) for name in found}
        self._plans = []
        for number in range(len(self._buckets)):
            lists = self._lists(number, found)
            # A master copy of float64 has float32, which only the reference takes.
            if self._dtypes[0] != torch.float64:
                self._kernel.check(lists)
            self._plans.append(Plan(self._kernel, lists))

    def _lists(self, number: int, found: Found) -> TensorLists:
        pieces = self._buckets[number]
        roles: dict[str, Sequence[Tensor]] = {
            "params": self._out[number],
            "grads": self._in[number],
        }
        for field in self._fields.values():
            roles[field] = [_cut_out(found[field][piece.index], piece) for piece in pieces]
        places = [self._places[piece.index] for piece in pieces]
        starts = [piece.start for piece in pieces]
        steps = self._steps[number].unbind()
        return TensorLists(roles, steps, numbers=places, starts=starts)

    def _staged(self, number: int, memory: Tensor) -> list[Tensor]:
        return [memory[p.offset : p.offset + _span(p)] for p in self._buckets[number]]

    def take(self, optimizer: SteppedOptimizer, params: Sequence[Tensor], grads: Grads) -> bool:
        """Take a step's tensors; ``False`` if they have changed.

        Raises:
            ValueError: tensors share memory that a step writes.
        """
        found = self._find(optimizer, params)
        if found is None or facts(found) != self._facts:
            return False
        if any(grad is None or grad.dtype != self._dtypes[1] for grad in grads):
            return False
        if any(addresses(listed) != self._at[name] for name, listed in found.items()):
            self._plan(found)
        return True

    def step(
        self, optimizer: SteppedOptimizer, params: Sequence[Tensor], grads: Grads, hyper: Hyper
    ) -> None:
        """Step every parameter once; the device's current stream waits for the last one."""
        found = self._find(optimizer, params)
        if found is None:
            raise RuntimeError(
                "The optimizer's state was changed during a step; change it between steps."
            )
        if self._buckets:
            flats = [
                _flat(_like(grad, param))
                for grad, param in zip(grads, params, strict=True)
                if grad is not None
            ]
            self._step_buckets(found, flats, hyper)
        torch._foreach_add_(list(found["steps"]), 1.0)

    def _step_buckets(self, found: Found, flats: Sequence[Tensor], hyper: Hyper) -> None:
        counted = torch.stack(list(found["steps"]))
        transfers = self._transfers
        transfers.begin()
        self._fetch(0, flats)
        for number, pieces in enumerate(self._buckets):
            if number + 1 < len(self._buckets):
                self._fetch(number + 1, flats)
            self._steps[number].copy_(counted[[piece.index for piece in pieces]])
            transfers.wait_until_usable(number)
            plan = self._plans[number]
            plan.step(self._lists(number, found) if plan.rest else None, hyper)
            targets = [_cut_out(found["params"][piece.index], piece) for piece in pieces]
            transfers.send(number, targets)
        transfers.end()

    def _fetch(self, number: int, flats: Sequence[Tensor]) -> None:
        sources = [flats[p.index][p.start : p.stop] for p in self._buckets[number]]
        self._transfers.fetch(number, sources)


def _counters(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.float32, device="cpu")


def _cut_out(tensor: Tensor, piece: Piece) -> Tensor:
    return _flat(tensor)[piece.start : piece.stop]


def _span(piece: Piece) -> int:
    return piece.stop - piece.start


def _flat(tensor: Tensor) -> Tensor:
    """Return a dense tensor's elements in the order of memory."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def _like(tensor: Tensor, param: Tensor) -> Tensor:
    """Return a tensor with the parameter's strides: itself, or a copy on its device."""
    if tensor.stride() == param.stride():
        return tensor
    return torch.empty_strided(
        param.shape, param.stride(), dtype=tensor.dtype, device=tensor.device
    ).copy_(tensor)


def _fitting(state: Tensor, key: str, param: Tensor) -> Tensor:
    """Return a state with the parameter's strides; `ValueError` unless it has its shape."""
    if state.shape != param.shape:
        raise ValueError(
            f"{key} has shape {tuple(state.shape)}, but its parameter has {tuple(param.shape)}."
        )
    checks.check_storage(state, key)
    return _like(state, param)
