"""A parameter's entry of an optimizer's state: its keys, and how it becomes complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.optim.policy import MASTER, state_dtype_for, wants_master

if TYPE_CHECKING:
    from accel.optim.base import KernelOptimizer

Group = dict[str, Any]


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
    settle_step(state, group, home)
    if not wants_master(param, group, home):
        state.pop(MASTER, None)
    elif MASTER not in state or state[MASTER].dtype != torch.float32:
        state[MASTER] = param.detach().to(home, torch.float32, copy=True)


def settle_step(state: Group, group: Group, home: torch.device) -> None:
    """Give a parameter's state a counter of its own, a float32 scalar at home.

    Some optimizers count as a plain number, or once for a group.
    """
    step: Any = state.get("step", group.get("step", 0.0))
    if not isinstance(step, Tensor):
        state["step"] = torch.tensor(float(step), dtype=torch.float32, device=home)
    elif "step" not in state or step.dtype != torch.float32 or step.device != home:
        state["step"] = step.to(home, torch.float32, copy=True)
