"""`SwappedGroup`: a parameter group whose states are stepped in buffers between transfers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from accel.errors import Unsupported
from accel.ops.optimizers.capture import is_recorded
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.prepared.plan import Plan
from accel.ops.optimizers.prepared.table import flat
from accel.optim.part import Part
from accel.optim.step_cache import PreparedGroup
from accel.optim.swap.extent import Bucket, Piece, Slot, buckets
from accel.optim.swap.placing import is_placed, settle
from accel.optim.swap.stream import Work

if TYPE_CHECKING:
    from accel.optim.stepped import SteppedOptimizer
    from accel.optim.swap.store import Store

Group = dict[str, Any]
_HOST = torch.device("cpu")


class SwappedGroup(PreparedGroup):
    """A prepared group whose states are in files.

    Args:
        store: the files.
        optimizer, group, grads: as for `PreparedGroup`.
    """

    def __init__(
        self,
        store: Store,
        optimizer: SteppedOptimizer,
        group: Group,
        grads: Sequence[Tensor | None],
    ) -> None:
        if is_recorded():
            raise Unsupported(
                "swap_dir: a step with states in files cannot be recorded; step outside of "
                "torch.compile and of dispatch modes, or leave swap_dir out."
            )
        self._store = store
        self._kernel = optimizer.kernel(_HOST)
        super().__init__(optimizer, group, grads)
        self._states: Mapping[Tensor, Any] = optimizer.state
        self._cuts = [
            _Cut(part, self._params, [self._slot(param) for param in self._params], store)
            for part in self.parts
        ]

    def _slot(self, param: Tensor) -> Slot:
        return self._store.slots[param]

    def _complete(
        self, optimizer: SteppedOptimizer, group: Group, params: Sequence[Tensor]
    ) -> list[Group]:
        """Return the parameters' states, in their places, with all that their step needs."""
        optimizer.refuse_pieces(params)
        index = next(at for at, one in enumerate(optimizer.param_groups) if one is group)
        settle(self._store, optimizer, index, params, self._at)
        return super()._complete(optimizer, group, params)

    def take(
        self,
        optimizer: SteppedOptimizer,
        group: Group,
        grads: Sequence[Tensor | None] | None = None,
    ) -> bool:
        """Take this step's tensors; ``False``, with none taken, if they have changed."""
        if not super().take(optimizer, group, grads):
            return False
        self._params = [group["params"][index] for index in self._at]
        if not all(is_placed(self._store, optimizer, param) for param in self._params):
            self.release()
            return False
        self._states = optimizer.state
        return True

    def release(self) -> None:
        """Drop the references to the tensors."""
        super().release()
        self._states = {}

    def step(self, hyper: Hyper) -> None:
        """Queue the step of every tensor that has a gradient."""
        if hyper.found_inf is not None and bool(hyper.found_inf):
            return
        if not self._at:
            return
        params = [*self._params]
        counters = [self._states[param]["step"] for param in params]
        stepping = _Stepping(self._kernel, self._at, params, counters, hyper)
        works = [
            Work(bucket, partial(stepping.bucket, cut.part, bucket))
            for cut in self._cuts
            for bucket in cut.buckets
        ]
        states = [self._slot(param).tensors for param in params]
        whole = [partial(stepping.whole, cut.part, cut.whole, states) for cut in self._cuts]
        self._store.queue(partial(stepping.begin, whole), works)


class _Cut:
    """A part of a group: what is stepped in buffers, and what in the files' memory.

    Attributes:
        part: the part.
        buckets: the buckets of the tensors that can be cut.
        whole: indices of those that only the reference can step, because their strides differ.
    """

    def __init__(
        self, part: Part, params: Sequence[Tensor], slots: Sequence[Slot], store: Store
    ) -> None:
        self.part = part
        self.whole = []
        cut = []
        for index in part.at:
            param, slot = params[index], slots[index]
            grad = param.grad
            if grad is not None and flat((param, grad, *slot.tensors.values())):
                cut.append((index, slot))
            else:
                self.whole.append(index)
        self.buckets = list(buckets(cut, store.stream.room))


class _Stepping:
    """One step of a group.

    Args:
        kernel: the host's kernel.
        places: the parameters' indices in the group.
        params: the parameters.
        counters: their counters of steps.
        hyper: the numbers of the step.
    """

    def __init__(
        self,
        kernel: Any,
        places: Sequence[int],
        params: Sequence[Tensor],
        counters: Sequence[Tensor],
        hyper: Hyper,
    ) -> None:
        self._kernel = kernel
        self._places = places
        self._params = params
        self._grads = [param.grad for param in params]
        self._counters = counters
        self._hyper = hyper

    def begin(self, whole: Sequence[Callable[[], None]]) -> None:
        """Step what is stepped in the files' memory, and count the step."""
        self._counted = torch.stack([*self._counters])
        for step in whole:
            step()
        torch._foreach_add_([*self._counters], 1.0)
        increment_version(self._params)

    def whole(self, part: Part, at: Sequence[int], states: Sequence[dict[str, Tensor]]) -> None:
        """Step tensors with their states in the files' memory."""
        if not at:
            return
        roles: dict[str, Sequence[Any]] = {
            "params": [self._params[index] for index in at],
            "grads": [self._grads[index] for index in at],
        }
        for key, field in _fields(part).items():
            roles[field] = [states[index][key] for index in at]
        self._step(roles, at, None)

    def bucket(self, part: Part, bucket: Bucket, states: dict[str, Tensor]) -> None:
        """Step the tensors of a bucket with their states in a buffer."""
        pieces = bucket.pieces
        roles: dict[str, Sequence[Any]] = {
            "params": [_cut_out(self._params[piece.param], piece) for piece in pieces],
            "grads": [_cut_out(self._grads[piece.param], piece) for piece in pieces],
        }
        for key, field in _fields(part).items():
            state = states[key]
            roles[field] = [
                state[piece.offset : piece.offset + piece.stop - piece.start] for piece in pieces
            ]
        at = [piece.param for piece in pieces]
        self._step(roles, at, [piece.start for piece in pieces])

    def _step(
        self, roles: dict[str, Sequence[Any]], at: Sequence[int], starts: Sequence[int] | None
    ) -> None:
        # Counters of their own, since the kernel counts each of a tensor's pieces.
        counters = self._counted[[*at]].unbind()
        places = [self._places[index] for index in at]
        lists = TensorLists(roles, counters, numbers=places, starts=starts)
        plan = Plan(self._kernel, lists)
        plan.step(lists if plan.rest else None, self._hyper)


def _fields(part: Part) -> dict[str, str]:
    return {key: field for key, field in part.keys.items() if field != "steps"}


def _cut_out(tensor: Tensor | None, piece: Piece) -> Tensor:
    assert tensor is not None
    flat_one = tensor.detach().as_strided((tensor.numel(),), (1,))
    return flat_one[piece.start : piece.stop]
