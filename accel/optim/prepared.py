"""`PreparedGroup`: how a parameter group is stepped, kept between steps without its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import is_not
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from accel.ops import checks
from accel.ops.capture import is_recorded
from accel.ops.kernel import Kernel
from accel.ops.lists import Hyper, TensorLists
from accel.ops.plan import Plan
from accel.ops.watch import Seen, Watch
from accel.optim.policy import MASTER, state_dtype_for, wants_master

if TYPE_CHECKING:
    from ctypes import CDLL

    from accel.ops.native_watch import NativeWatch
    from accel.optim.base import KernelOptimizer

Group = dict[str, Any]
_PATIENCE = 8
"""How many native watches may each serve for under `_WORTH_IT` steps, before Python does it all."""

_WORTH_IT = 4


def keys_of(optimizer: KernelOptimizer, group: Group) -> dict[str, str]:
    """Return the keys of a parameter's state, with the field of the op's C struct for each."""
    states = {key: optimizer.states[key] for key in optimizer.state_keys(group)}
    return {**states, MASTER: "masters", "step": "steps", **optimizer.extra_keys}


@contextmanager
def unchanged_on_error(optimizer: KernelOptimizer, params: Sequence[Tensor]) -> Iterator[None]:
    """Put the parameters' states back as they were if what is done meanwhile raises."""
    states = [optimizer.state.get(param) for param in params]
    before = [None if state is None else {**state} for state in states]
    try:
        yield
    except BaseException:
        for param, entries in zip(params, before, strict=True):
            if entries is None:
                optimizer.state.pop(param, None)
            else:
                optimizer.state[param].clear()
                optimizer.state[param].update(entries)
        raise


class Members(NamedTuple):
    """A group's parameters that have a gradient, in lists of one length.

    Attributes:
        params: as the optimizer has them, which may be distributed.
        own: what this process steps of them.
        grads: likewise of their gradients.
        states: their entries of the optimizer's state, ``None`` where there is none.
    """

    params: Sequence[Tensor]
    own: Sequence[Tensor]
    grads: Sequence[Tensor]
    states: Sequence[Group | None]


class PreparedGroup:
    """What one group's steps have in common; between steps it holds no tensor of the user's.

    Attributes:
        parts: what each kernel steps.
        sharded: whether a parameter is distributed, and this process steps its shard.

    Args:
        optimizer: whose group it is; the group's states are made complete.
        group: the parameter group.
        grads: its gradients, ``None`` where there is none or this process leaves it out.

    Raises:
        TypeError, ValueError: a tensor cannot be stepped, named; the states are as before.
    """

    def __init__(
        self, optimizer: KernelOptimizer, group: Group, grads: Sequence[Tensor | None]
    ) -> None:
        self._policy = _policy(optimizer, group)
        self._at = [index for index, grad in enumerate(grads) if grad is not None]
        self._native: NativeWatch | None = None
        self._patience = _PATIENCE
        self._served = 0
        members = self._members(optimizer, group, grads)
        params, own, given, _ = members
        self._params: Sequence[Tensor] = params
        checks.check_tensors({"params": own, "grads": given})
        checks.check_gradients("grads", given)
        self.sharded = any(map(is_not, own, params))
        with unchanged_on_error(optimizer, params):
            states = [optimizer.complete(group, param) for param in params]
            keys = keys_of(optimizer, group)
            self.parts = [
                Part(optimizer, kernel, keys, at, members._replace(states=states))
                for kernel, at in _by_kernel(optimizer, own, states)
            ]

    def _members(
        self, optimizer: KernelOptimizer, group: Group, grads: Sequence[Tensor | None]
    ) -> Members:
        params = [group["params"][index] for index in self._at]
        given = [optimizer.local(grad) for grad in grads if grad is not None]
        states = [optimizer.state.get(param) for param in params]
        return Members(params, [*map(optimizer.local, params)], given, states)

    def take(
        self,
        optimizer: KernelOptimizer,
        group: Group,
        grads: Sequence[Tensor | None] | None = None,
    ) -> bool:
        """Take this step's tensors; ``False``, with none taken, if they are not alike any more.

        Args:
            optimizer: whose group it is.
            group: the parameter group.
            grads: its gradients; ``None``: those that the parameters have.

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
        finally:
            if not alike:
                self.release()
        if alike:
            self._watch_natively(optimizer, params)
        return alike

    def _watch_natively(self, optimizer: KernelOptimizer, params: Sequence[Tensor]) -> None:
        """Let the next step's tensors be looked at natively, where that serves for all of them."""
        if self.sharded or not self._patience:
            return
        self._patience -= self._served < _WORTH_IT
        self._served = 0
        from accel.ops.native_watch import NativeWatch, places_of

        library = _library(self.parts)
        places = places_of(params, optimizer.state)
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
        """Let go of the tensors."""
        self._params = ()
        for part in self.parts:
            part.tensors, part.params = None, ()
        if self._native is not None:
            self._native.release()


class Part:
    """The tensors of a group that one kernel steps.

    Attributes:
        at: which they are of the parameters that have a gradient.
        keys: the keys of their states, with the field of the op's C struct for each.
        scratch: memory of the op's own, by field.
        tensors: the tensors during a step; ``None`` if a native watch keeps them.
        params: the parameters as the optimizer has them, likewise.

    Args:
        optimizer: whose part it is.
        kernel: steps it.
        keys: see above; the masters' key counts only if there are any.
        at: see above.
        group: what `take` takes.

    Raises:
        TypeError, ValueError: a tensor cannot be stepped, named.
    """

    def __init__(
        self,
        optimizer: KernelOptimizer,
        kernel: Kernel,
        keys: Mapping[str, str],
        at: Sequence[int],
        group: Members,
    ) -> None:
        self.at = at
        mastered = MASTER in (group.states[at[0]] or {})
        self.keys = {key: field for key, field in keys.items() if key != MASTER or mastered}
        self.scratch = optimizer.scratch([group.own[index] for index in at])
        self._kernel = kernel
        self.tensors = self._collect(optimizer, group)
        self.params: Sequence[Tensor] = [group.params[index] for index in at]
        if self.tensors is None:
            raise TypeError(f"A state of {type(optimizer).__name__} is no tensor.")
        kernel.check(self.tensors)
        self._plan = None if is_recorded() else Plan(kernel, self.tensors)
        self._watch = None if self._plan is None else Watch(self._plan, self.tensors)

    def take(self, optimizer: KernelOptimizer, group: Members) -> bool:
        """Take this step's tensors; ``False`` if they are not alike any more; see `Watch.take`."""
        tensors = None if self._watch is None else self._collect(optimizer, group)
        if tensors is None or self._watch is None or not self._watch.take(tensors):
            return False
        self.tensors, self.params = tensors, [group.params[index] for index in self.at]
        return True

    def _collect(self, optimizer: KernelOptimizer, group: Members) -> TensorLists | None:
        """Return the lists that the kernel takes; ``None`` if a state lacks a tensor."""
        states = [group.states[index] for index in self.at]
        lists: dict[str, Sequence[Tensor]] = {
            "params": [group.own[index] for index in self.at],
            "grads": [group.grads[index] for index in self.at],
        }
        for key, field in self.keys.items():
            found = [None if state is None else state.get(key) for state in states]
            if not all(isinstance(tensor, Tensor) for tensor in found):
                return None
            lists[field] = [*map(optimizer.local, found)]  # type: ignore[arg-type]
        steps = lists.pop("steps")
        extras = {field: lists.pop(field) for field in optimizer.extra_keys.values()}
        return TensorLists(lists, steps, {**extras, **self.scratch})

    def watcher(self) -> CDLL | None:
        """Return a library that can look at all of the part's tensors, if there is one."""
        if self._plan is None or self._plan.rest:
            return None
        return getattr(self._kernel.native, "watcher", None)

    def seen(self, keys: Sequence[str]) -> Iterator[tuple[int, list[Seen | None]]]:
        """Yield what `NativeWatch` looks at of each parameter, by index as in `at`."""
        if self._plan is None or self.tensors is None:
            return
        lists = self.tensors.by_field()
        fields = ["params", "grads", *(self.keys.get(key) for key in keys)]
        of_own_layout = {*self.tensors.extras, "steps"}
        for call in self._plan.calls:
            for place, index in enumerate(call.indices):
                yield (
                    self.at[index],
                    [
                        None
                        if field is None
                        else Seen(
                            lists[field][index],
                            call.table.slot(field, place),
                            field in of_own_layout,
                        )
                        for field in fields
                    ],
                )

    def written(self) -> list[tuple[int, int]]:
        """Return the memory that a step writes; see `Watch.written`."""
        return [] if self._watch is None else self._watch.written()

    def step(self, hyper: Hyper) -> None:
        """Step the tensors."""
        if self._plan is None and self.tensors is not None:
            self._kernel.family.dispatch(self._kernel.key, self.tensors, hyper)
        elif self._plan is not None:
            self._plan.step(self.tensors, hyper)


def _library(parts: Sequence[Part]) -> CDLL | None:
    libraries = [part.watcher() for part in parts]
    return libraries[0] if libraries and None not in libraries else None


def _policy(optimizer: KernelOptimizer, group: Group) -> tuple[object, ...]:
    """Return what else of a group decides on its tensors' states."""
    return (optimizer.state_keys(group), group["state_dtype"], group["master_dtype"])


def _by_kernel(
    optimizer: KernelOptimizer, params: Sequence[Tensor], states: Sequence[Group]
) -> list[tuple[Kernel, list[int]]]:
    """Sort indices by device and by whether there is a master copy, with the kernel of each."""
    sorted_out: dict[tuple[torch.device, bool], list[int]] = {}
    for index, param in enumerate(params):
        key = (param.device, MASTER in states[index])
        sorted_out.setdefault(key, []).append(index)
    return [(optimizer.kernel(device), at) for (device, _), at in sorted_out.items()]


def complete_state(optimizer: KernelOptimizer, group: Group, param: Tensor) -> Group:
    """Return the parameter's state with step, float states and master copy as its step needs."""
    state: Group = optimizer.state.setdefault(param, {})
    home = optimizer.home(param)
    complete_frame(state, group, param, home)
    dtype = state_dtype_for(param, group)
    for key in optimizer.state_keys(group):
        if key not in state:
            state[key] = optimizer.new_state(key, param.detach(), group, dtype)
        elif state[key].dtype != dtype or state[key].device != home:
            state[key] = state[key].to(home, dtype)
    return state


def complete_frame(state: Group, group: Group, param: Tensor, home: torch.device) -> None:
    """Put a step counter and, where it is wanted, a master copy into a parameter's state."""
    step = state.get("step", group.get("step", 0.0))
    if not isinstance(step, Tensor) or step.dtype != torch.float32 or step.device != home:
        state["step"] = torch.as_tensor(step).to(home, torch.float32, copy=True)
    elif "step" not in state:
        state["step"] = step.clone()
    if not wants_master(param, group, home):
        state.pop(MASTER, None)
    elif MASTER not in state or state[MASTER].dtype != torch.float32:
        state[MASTER] = param.detach().to(home, torch.float32, copy=True)
