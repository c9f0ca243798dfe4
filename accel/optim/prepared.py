"""`PreparedGroup`: a parameter group's tensors as kernels take them, kept between steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import is_not
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from accel.ops import checks
from accel.ops.capture import is_recorded
from accel.ops.host_loops import HostLoops, Snapshot
from accel.ops.kernel import Kernel, Plan
from accel.ops.lists import Hyper, TensorLists
from accel.optim.policy import MASTER, state_dtype_for, wants_master

if TYPE_CHECKING:
    from accel.ops.table import PointerTable
    from accel.optim.base import KernelOptimizer

Group = dict[str, Any]


def collect(params: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradients of the parameters, ``None`` where there is none."""
    return [param.grad for param in params]


def _entries(states: Sequence[Group]) -> list[Any]:
    return [*chain.from_iterable(map(dict.values, states))]


class PreparedGroup:
    """What one group's next step works on.

    Attributes:
        parts: what each kernel steps.
        sharded: whether a parameter is distributed, and this process steps its shard.

    Args:
        optimizer: whose group it is; the group's states are made complete.
        group: the parameter group.
        grads: its gradients, from `collect`.

    Raises:
        TypeError, ValueError: a tensor cannot be stepped, named; no state has been added.
    """

    def __init__(
        self, optimizer: KernelOptimizer, group: Group, grads: Sequence[Tensor | None]
    ) -> None:
        self._all = list(group["params"])
        self._group = group
        self._local = optimizer.local
        self._at = [index for index, grad in enumerate(grads) if grad is not None]
        params = [self._all[index] for index in self._at]
        given = [optimizer.local(grad) for grad in grads if grad is not None]
        own = [optimizer.local(param) for param in params]
        checks.check_tensors({"params": own, "grads": given})
        checks.check_gradients("grads", given)
        fresh = [param for param in params if param not in optimizer.state]
        self._keys = (*optimizer.state_keys(group), "step")
        self.sharded = any(map(is_not, own, params))
        try:
            self._states = [optimizer.complete(group, param) for param in params]
            self.parts = [
                Part(
                    kernel,
                    self._lists(optimizer, own, given, at),
                    at,
                    [params[index] for index in at],
                )
                for kernel, at in _by_kernel(optimizer, own, self._states)
            ]
        except BaseException:
            for param in fresh:
                optimizer.state.pop(param, None)
            raise
        self._kept = _entries(self._states)
        self._snapshot: Snapshot | None = None
        self._searched = False

    def _lists(
        self,
        optimizer: KernelOptimizer,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        at: Sequence[int],
    ) -> TensorLists:
        local = optimizer.local
        roles: dict[str, Sequence[Tensor]] = {
            "params": [params[index] for index in at],
            "grads": [grads[index] for index in at],
        }
        for key in self._keys[:-1]:
            roles[optimizer.states[key]] = [local(self._states[index][key]) for index in at]
        if at and MASTER in self._states[at[0]]:
            roles["masters"] = [local(self._states[index][MASTER]) for index in at]
        chosen = [self._states[index] for index in at]
        extras = optimizer.extras(self._group, roles["params"], chosen)
        return TensorLists(roles, [state["step"] for state in chosen], extras)

    def _replaced(self) -> bool:
        """Return whether a state holds anything else than what was prepared."""
        return not checks.same_objects(_entries(self._states), self._kept)

    def take(self, params: list[Tensor]) -> bool:
        """Take this step's gradients in a native loop; ``False`` leaves them to `refresh`.

        It takes them where everything is as it was at the last step and they are plain.
        """
        return self._snapshot is not None and not is_recorded() and self._snapshot.take(params)

    def _take_snapshot(self, grads: Sequence[Tensor | None]) -> Snapshot | None:
        """Return what takes such gradients natively, where it can stand for all of `refresh`."""
        plain = all(type(param) in (Tensor, Parameter) for param in self._all)
        loops = [part.loops() for part in self.parts]
        if not plain or not loops or loops[0] is None or None in loops:
            return None
        tables = [
            (table, [self._at[index] for index in indices])
            for part in self.parts
            for table, indices in part.tables()
        ]
        written = [block for part in self.parts for block in part.written()]
        return loops[0].snapshot(self._all, grads, self._states, tables, written)

    def refresh(self, params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> bool:
        """Take this step's gradients; returns whether what was prepared still holds."""
        present = [grad for grad in grads if grad is not None]
        if len(present) != len(self._at) or not checks.same_objects(params, self._all):
            return False
        if len(present) != len(grads) and any(grads[index] is None for index in self._at):
            return False
        if self._replaced():
            return False
        if not self.sharded:
            if not all(part.refresh(present) for part in self.parts):
                return False
            if not self._searched:
                self._searched = True
                self._snapshot = self._take_snapshot(grads)
            return True
        if any(part.shards_moved(self._local) for part in self.parts):
            return False
        own = [self._local(grad) for grad in present]
        return all(part.refresh(own) for part in self.parts)

    def step(self, hyper: Hyper) -> None:
        """Step every tensor of the group that has a gradient."""
        for part in self.parts:
            part.step(hyper)

    def release(self) -> None:
        """Let go of the gradients."""
        for part in self.parts:
            part.release()
        if self._snapshot is not None:
            self._snapshot.release()


class Part:
    """The tensors of a group that one kernel steps.

    Attributes:
        params: the parameters as the optimizer has them, which may be distributed.
        tensors: what this process steps of them.
    """

    def __init__(
        self, kernel: Kernel, tensors: TensorLists, at: Sequence[int], params: Sequence[Tensor]
    ) -> None:
        self.params = params
        self.tensors = tensors
        self._kernel = kernel
        self._at = at
        kernel.check(tensors)
        self._plan = None if is_recorded() else Plan(kernel, tensors)

    def shards_moved(self, local: Callable[[Tensor], Tensor]) -> bool:
        """Return whether a distributed parameter's shard is another one than at the start."""
        return any(
            local(param).data_ptr() != own.data_ptr()
            for param, own in zip(self.params, self.tensors.params, strict=True)
        )

    def refresh(self, grads: Sequence[Tensor]) -> bool:
        """Take this step's gradients; returns whether the plan still holds."""
        if self._plan is None or is_recorded() or self._plan.moved():
            return False
        whole = len(self._at) == len(grads)
        return self._plan.refresh(grads if whole else [grads[index] for index in self._at])

    def loops(self) -> HostLoops | None:
        """Return the native loops where they can stand for all that `refresh` does."""
        return None if self._plan is None else self._plan.loops()

    def tables(self) -> list[tuple[PointerTable, list[int]]]:
        """Return the native calls' tensors, each with the indices of its gradients."""
        calls = [] if self._plan is None else self._plan.tables()
        return [(table, [self._at[index] for index in indices]) for table, indices in calls]

    def written(self) -> Iterable[tuple[int, int]]:
        """Return the memory that a step writes; see `Occupied.blocks`."""
        return () if self._plan is None else self._plan.written()

    def release(self) -> None:
        """Let go of the gradients."""
        if self._plan is not None:
            self._plan.release()

    def step(self, hyper: Hyper) -> None:
        """Step the tensors."""
        if self._plan is None:
            self._kernel.family.dispatch(self._kernel.key, self.tensors, hyper)
        else:
            self._plan.step(hyper)


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
    state: Group = optimizer.state[param]
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
