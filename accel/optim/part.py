"""`Part`: the tensors of a parameter group that one kernel steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.nn import Parameter

from accel.ops.optimizers.capture import is_recorded
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.kernel import Kernel
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.prepared.plan import Plan
from accel.ops.optimizers.prepared.watch import Seen, Watch
from accel.optim.policy import MASTER
from accel.optim.shards import own_extra

if TYPE_CHECKING:
    from ctypes import CDLL

    from accel.optim.stepped import SteppedOptimizer

Group = dict[str, Any]
_PLAIN = {Tensor, Parameter}


def are_plain(values: Sequence[Any]) -> bool:
    """Return whether all are tensors without an overriding type of another library."""
    return _PLAIN.issuperset(map(type, values))


def all_local(optimizer: SteppedOptimizer, tensors: list[Tensor]) -> list[Tensor]:
    """Return `local` of each, which is the list itself if they are ordinary tensors."""
    return tensors if are_plain(tensors) else [*map(optimizer.local, tensors)]


def own_extras(
    family: Family | None, field: str, own: Sequence[Tensor], extras: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Return the parts of a family's extra tensors that belong to `own`, by the op's field."""
    if family is None or are_plain(extras):
        return extras
    elements = family.extra_kinds[field].elements
    return [own_extra(extra, one, elements) for extra, one in zip(extras, own, strict=True)]


class Members(NamedTuple):
    """A group's parameters that have a gradient, in lists of one length.

    Attributes:
        params: the optimizer's parameters, which may be distributed.
        own: this process's part of each parameter.
        grads: this process's part of each gradient.
        states: their entries of the optimizer's state, ``None`` if there is none.
        places: their indices in the group.
    """

    params: Sequence[Tensor]
    own: Sequence[Tensor]
    grads: Sequence[Tensor]
    states: Sequence[Group | None]
    places: Sequence[int]


class Part:
    """The tensors of a group that one kernel steps.

    Attributes:
        at: their indices among the parameters that have a gradient.
        keys: the keys of their states, with the field of the op's C struct for each.
        scratch: memory that the op works in, by field.
        tensors: the tensors during a step; ``None`` if a native watch keeps them.
        params: the optimizer's parameters, likewise only during a step.

    Args:
        optimizer: the optimizer whose part it is.
        kernel: the kernel that steps it.
        keys: see above; the masters' key counts only if there are any.
        at: see above.
        group: the group's tensors, as for `take`.

    Raises:
        TypeError, ValueError: a tensor cannot be stepped, named.
    """

    def __init__(
        self,
        optimizer: SteppedOptimizer,
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
            raise TypeError(f"A state of {type(optimizer).__name__} is not a tensor.")
        kernel.check(self.tensors)
        self._plan = None if is_recorded() else Plan(kernel, self.tensors)
        self._watch = None if self._plan is None else Watch(self._plan, self.tensors)

    def take(self, optimizer: SteppedOptimizer, group: Members) -> bool:
        """Take this step's tensors; ``False`` if they have changed; see `Watch.take`."""
        tensors = None if self._watch is None else self._collect(optimizer, group)
        if tensors is None or self._watch is None or not self._watch.take(tensors):
            return False
        self.tensors, self.params = tensors, [group.params[index] for index in self.at]
        return True

    def _collect(self, optimizer: SteppedOptimizer, group: Members) -> TensorLists | None:
        """Return the lists that the kernel takes; ``None`` if a state lacks a tensor."""
        states = [group.states[index] for index in self.at]
        lists: dict[str, Sequence[Tensor]] = {
            "params": [group.own[index] for index in self.at],
            "grads": [group.grads[index] for index in self.at],
        }
        for key, field in self.keys.items():
            found = [state.get(key) if isinstance(state, dict) else None for state in states]
            if not are_plain(found) and not all(isinstance(one, Tensor) for one in found):
                return None
            extra = key in optimizer.extra_keys
            lists[field] = found if extra else all_local(optimizer, found)  # type: ignore[assignment, arg-type]
        steps = lists.pop("steps")
        extras = {
            field: own_extras(optimizer.family, field, lists["params"], lists.pop(field))
            for field in optimizer.extra_keys.values()
        }
        # Counted over the whole group, so that a missing gradient shifts no other's random bits.
        places = [group.places[index] for index in self.at]
        return TensorLists(lists, steps, {**extras, **self.scratch}, places)

    def watcher(self) -> CDLL | None:
        """Return a library that can check all of the part's tensors, if there is one."""
        if self._plan is None or self._plan.rest:
            return None
        own: CDLL | None = getattr(self._kernel.native, "watcher", None)
        if own is None:
            from accel.ops.optimizers.prepared.host_watch import host_watcher

            own = host_watcher()
        return own

    def seen(self, keys: Sequence[str]) -> Iterator[tuple[int, list[Seen | None]]]:
        """Yield the tensors of each parameter that `NativeWatch` checks, by index as in `at`."""
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
