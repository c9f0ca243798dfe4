"""`PreparedGroup`: a parameter group prepared for its steps; it keeps no tensors between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import is_not
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from accel.ops import checks
from accel.ops.optimizers.capture import is_recorded
from accel.ops.optimizers.checks import check_gradients
from accel.ops.optimizers.kernel import Kernel
from accel.ops.optimizers.lists import Hyper
from accel.ops.optimizers.prepared.watch import Seen
from accel.optim.part import Members, Part, all_local
from accel.optim.policy import MASTER
from accel.optim.state import complete_states, keys_of

if TYPE_CHECKING:
    from ctypes import CDLL

    from accel.ops.optimizers.prepared.native_watch import NativeWatch
    from accel.optim.stepped import SteppedOptimizer

Group = dict[str, Any]
_PATIENCE = 8
"""How many native watches may each last fewer than `_WORTH_IT` steps before Python checks alone."""

_WORTH_IT = 4


class PreparedGroup:
    """The common part of one group's steps; between steps it holds none of the user's tensors.

    Attributes:
        parts: the tensors of each kernel.
        sharded: whether a parameter is distributed, and this process steps its shard.

    Args:
        optimizer: the group's optimizer; the group's states are made complete.
        group: the parameter group.
        grads: the gradients; ``None`` for a parameter without one, or that this process skips.

    Raises:
        TypeError, ValueError: a tensor cannot be stepped, named; states may be completed by then.
    """

    def __init__(
        self, optimizer: SteppedOptimizer, group: Group, grads: Sequence[Tensor | None]
    ) -> None:
        self._policy = _policy(optimizer, group)
        self._at = [index for index, grad in enumerate(grads) if grad is not None]
        self._native: NativeWatch | None = None
        self._patience = _PATIENCE
        self._served = 0
        members = self._members(optimizer, group, grads)
        params, own, given = members[:3]
        self._params: Sequence[Tensor] = params
        checks.check_tensors({"params": own, "grads": given})
        check_gradients("grads", given)
        self.sharded = any(map(is_not, own, params))
        states = self._complete(optimizer, group, params)
        keys = keys_of(optimizer, group)
        self.parts = [
            Part(optimizer, kernel, keys, at, members._replace(states=states))
            for kernel, at in _by_kernel(optimizer, own, states)
        ]
        _check_counters(states, self._at)

    def _complete(
        self, optimizer: SteppedOptimizer, group: Group, params: Sequence[Tensor]
    ) -> list[Group]:
        """Return the parameters' states with everything that their next step needs."""
        return complete_states(optimizer, group, params, self._at)

    def _members(
        self, optimizer: SteppedOptimizer, group: Group, grads: Sequence[Tensor | None]
    ) -> Members:
        params = [group["params"][index] for index in self._at]
        given = all_local(optimizer, [grad for grad in grads if grad is not None])
        states = [optimizer.state.get(param) for param in params]
        return Members(params, all_local(optimizer, params), given, states, self._at)

    def take(
        self,
        optimizer: SteppedOptimizer,
        group: Group,
        grads: Sequence[Tensor | None] | None = None,
    ) -> bool:
        """Take this step's tensors; ``False``, with none taken, if they have changed.

        Args:
            optimizer: the group's optimizer.
            group: the parameter group.
            grads: the gradients; ``None``: the parameters' `grad`.

        Raises:
            ValueError: tensors share memory that a step writes.
        """
        if is_recorded() or _policy(optimizer, group) != self._policy:
            return False
        params = group["params"]
        if grads is None:
            if self._native is not None and self._native.take(params, optimizer.state):
                whole = len(self._at) == len(params)
                self._params = params if whole else [params[index] for index in self._at]
                self._served += 1
                return True
            grads = [param.grad for param in params]
        if [index for index, grad in enumerate(grads) if grad is not None] != self._at:
            return False
        members = self._members(optimizer, group, grads)
        if any(map(is_not, members.own, members.params)) != self.sharded:
            return False
        alike = False
        try:
            alike = all(part.take(optimizer, members) for part in self.parts)
            alike = alike and (len(self.parts) < 2 or not _share_counters(self.parts))
        finally:
            if not alike:
                self.release()
        if alike:
            self._watch_natively(optimizer, params)
        return alike

    def _watch_natively(self, optimizer: SteppedOptimizer, params: Sequence[Tensor]) -> None:
        """Set up a native check of the next step's tensors, if it can check all of them."""
        if self.sharded or not self._patience:
            return
        self._patience -= self._served < _WORTH_IT
        self._served = 0
        from accel.ops.optimizers.prepared.native_watch import NativeWatch, places_of

        places = places_of(params, optimizer.state)
        library = None if places is None else _library(self.parts)
        if library is None or places is None:
            self._patience = 0
            return
        keys = [*dict.fromkeys(chain.from_iterable(part.keys for part in self.parts))]
        seen: list[list[Seen | None] | None] = [None] * len(params)
        for part in self.parts:
            for index, entries in part.seen(keys):
                seen[self._at[index]] = entries
        written = sorted(chain.from_iterable(part.written() for part in self.parts))
        try:
            self._native = NativeWatch(library, keys, seen, places, written)
        except (LookupError, OSError):
            self._patience = 0

    def step(self, hyper: Hyper) -> None:
        """Step every tensor of the group that has a gradient."""
        for part in self.parts:
            part.step(hyper)
        if any(part.tensors is None for part in self.parts):
            increment_version(self._params)

    def release(self) -> None:
        """Drop the references to the tensors."""
        self._params = ()
        for part in self.parts:
            part.tensors, part.params = None, ()
        if self._native is not None:
            self._native.release()


def _library(parts: Sequence[Part]) -> CDLL | None:
    libraries = [part.watcher() for part in parts]
    return libraries[0] if libraries and None not in libraries else None


def _share_counters(parts: Sequence[Part]) -> bool:
    counters = [id(step) for part in parts if part.tensors for step in part.tensors.steps or ()]
    return len({*counters}) != len(counters)


def _check_counters(states: Sequence[Group], at: Sequence[int]) -> None:
    """Refuse parameters that share one step counter, whichever kernels step them.

    torch is not a model here: its implementations give different results in this case.
    """
    first: dict[int, int] = {}
    for place, state in zip(at, states, strict=True):
        other = first.setdefault(id(state["step"]), place)
        if other != place:
            raise ValueError(
                f"state['step'] of params[{place}] is the same tensor as that of params[{other}]; "
                f"give each its own: state['step'] = state['step'].clone()."
            )


def _policy(optimizer: SteppedOptimizer, group: Group) -> tuple[object, ...]:
    """Return the other options that decide on a group's states and whether they may be written."""
    inference = torch.is_inference_mode_enabled()
    kept = (group["state_dtype"], group["master_dtype"])
    return (optimizer.state_keys(group), *kept, inference, optimizer.clips)


def _by_kernel(
    optimizer: SteppedOptimizer, params: Sequence[Tensor], states: Sequence[Group]
) -> list[tuple[Kernel, list[int]]]:
    """Sort indices by device and by whether there is a master copy, with the kernel of each."""
    sorted_out: dict[tuple[torch.device, bool], list[int]] = {}
    for index, param in enumerate(params):
        key = (param.device, MASTER in states[index])
        sorted_out.setdefault(key, []).append(index)
    return [(optimizer.kernel(device), at) for (device, _), at in sorted_out.items()]
