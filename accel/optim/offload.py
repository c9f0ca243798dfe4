"""`OffloadedGroup`: stepping on the host what lives on a device, with transfers alongside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.current import accelerator_for
from accel.ops import checks
from accel.ops.kernel import Kernel, Plan
from accel.ops.lists import Hyper, TensorLists
from accel.optim.policy import MASTER
from accel.optim.transfers import Transfers

if TYPE_CHECKING:
    from accel.optim.base import KernelOptimizer

Group = dict[str, Any]
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

    Master copies and states are on the host; gradients come over in buckets and rounded parameters
    go back, each on a stream of its own, while the host steps the bucket between.

    Args:
        optimizer: whose group it is; the group's states are made complete.
        group: the parameter group.
        params: parameters of one device and dtype, dense.
        grads: their gradients, of one dtype.
        kernel: the host's kernel.

    Raises:
        TypeError, ValueError: a tensor cannot be stepped, named.
    """

    def __init__(
        self,
        optimizer: KernelOptimizer,
        group: Group,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        kernel: Kernel,
    ) -> None:
        checks.check_no_overlap({"params": params}, {})
        self._kernel = kernel
        self._keys = optimizer.state_keys(group)
        self._roles = [optimizer.states[key] for key in self._keys]
        self._states = [optimizer.complete(group, param) for param in params]
        self._params = [_flat(param) for param in params]
        self._laid_out = list(params)
        self._dtypes = (params[0].dtype, grads[0].dtype)
        self._buckets = list(cut([param.numel() for param in params], BUCKET))
        ends = [pieces[-1].offset + _span(pieces[-1]) for pieces in self._buckets]
        device = params[0].device
        self._transfers = Transfers(
            accelerator_for(device), device, self._dtypes, max(ends, default=0)
        )
        numbers = range(len(self._buckets))
        self._in = [self._staged(number, self._transfers.grads(number)) for number in numbers]
        self._out = [self._staged(number, self._transfers.params(number)) for number in numbers]
        self._targets = [
            [self._params[p.index][p.start : p.stop] for p in pieces] for pieces in self._buckets
        ]
        self._steps = [_counters(len(pieces)) for pieces in self._buckets]
        self._plans = [self._plan(number) for number in range(len(self._buckets))]

    def _plan(self, number: int) -> Plan:
        pieces = self._buckets[number]
        roles: dict[str, Sequence[Tensor]] = {
            "params": self._out[number],
            "grads": self._in[number],
        }
        for role, key in (*zip(self._roles, self._keys, strict=True), ("masters", MASTER)):
            roles[role] = [
                _flat(_as(self._states[piece.index], key, self._laid_out[piece.index]))[
                    piece.start : piece.stop
                ]
                for piece in pieces
            ]
        lists = TensorLists(roles, self._steps[number].unbind())
        # A master copy of float64 has float32, which only the reference takes.
        if self._dtypes[0] != torch.float64:
            self._kernel.check(lists)
        return Plan(self._kernel, lists)

    def _staged(self, number: int, memory: Tensor) -> list[Tensor]:
        return [memory[p.offset : p.offset + _span(p)] for p in self._buckets[number]]

    def step(self, grads: Sequence[Tensor], hyper: Hyper) -> None:
        """Step every parameter once; the device's current stream waits for the last one."""
        if not self._buckets:
            torch._foreach_add_([state["step"] for state in self._states], 1.0)
            return
        pairs = zip(grads, self._laid_out, strict=True)
        flats = [_flat(_like(grad, param)) for grad, param in pairs]
        counted = torch.stack([state["step"] for state in self._states])
        transfers = self._transfers
        transfers.begin()
        self._fetch(0, flats)
        for number, pieces in enumerate(self._buckets):
            if number + 1 < len(self._buckets):
                self._fetch(number + 1, flats)
            self._steps[number].copy_(counted[[piece.index for piece in pieces]])
            transfers.wait_until_usable(number)
            self._plans[number].step(hyper)
            transfers.send(number, self._out[number], self._targets[number])
        transfers.end()
        torch._foreach_add_([state["step"] for state in self._states], 1.0)

    def _fetch(self, number: int, flats: Sequence[Tensor]) -> None:
        sources = [flats[p.index][p.start : p.stop] for p in self._buckets[number]]
        self._transfers.fetch(number, sources, self._in[number])

    def holds(self, params: Sequence[Tensor], grads: Sequence[Tensor]) -> bool:
        """Return whether these are the tensors that it was made for, their memory in place."""
        return (
            checks.same_objects(params, self._laid_out)
            and all(grad.dtype == self._dtypes[1] for grad in grads)
            and all(
                param.data_ptr() == flat.data_ptr()
                for param, flat in zip(params, self._params, strict=True)
            )
            and not any(plan.moved() for plan in self._plans)
        )

    def watched(self) -> list[Any]:
        """Return the state tensors that it works on, to notice when one is replaced."""
        keys = (*self._keys, MASTER, "step")
        return [state.get(key) for state in self._states for key in keys]


def _counters(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.float32, device="cpu")


def _span(piece: Piece) -> int:
    return piece.stop - piece.start


def _flat(tensor: Tensor) -> Tensor:
    """Return a dense tensor's elements as they lie in memory."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def _like(tensor: Tensor, param: Tensor) -> Tensor:
    """Return a tensor with the parameter's strides: itself, or a copy on its device."""
    if tensor.stride() == param.stride():
        return tensor
    return torch.empty_strided(
        param.shape, param.stride(), dtype=tensor.dtype, device=tensor.device
    ).copy_(tensor)


def _as(state: Group, key: str, param: Tensor) -> Tensor:
    """Return a state with the parameter's strides, and keep it so; `ValueError` unless it fits."""
    if state[key].shape != param.shape:
        raise ValueError(
            f"{key} has shape {tuple(state[key].shape)}, but its parameter has "
            f"{tuple(param.shape)}."
        )
    checks.check_storage(state[key], key)
    state[key] = _like(state[key], param)
    kept: Tensor = state[key]
    return kept
