"""A parameter's entry in an optimizer's state: its keys, and how it is completed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.errors import InvalidSetting
from accel.optim.entries import check_counter, check_entry, entries_of
from accel.optim.policy import MASTER, state_dtype_for, wants_master

if TYPE_CHECKING:
    from accel.optim.stepped import SteppedOptimizer

Group = dict[str, Any]
_ABSENT: Any = object()


def keys_of(optimizer: SteppedOptimizer, group: Group) -> dict[str, str]:
    """Return the keys of a parameter's state, with the field of the op's C struct for each."""
    states = {key: optimizer.states[key] for key in optimizer.state_keys(group)}
    return {**states, MASTER: "masters", "step": "steps", **optimizer.extra_keys}


def keep_states(optimizer: SteppedOptimizer, params: Iterable[Tensor]) -> Callable[[], None]:
    """Return a function that restores the parameters' states as they are now."""
    before = [(param, optimizer.state.get(param, _ABSENT)) for param in params]
    entries = [{**state} if isinstance(state, dict) else None for _, state in before]

    def put_back() -> None:
        for (param, state), kept in zip(before, entries, strict=True):
            if state is _ABSENT:
                optimizer.state.pop(param, None)
            elif kept is not None:
                state.clear()
                state.update(kept)

    return put_back


def complete_states(
    optimizer: SteppedOptimizer, group: Group, params: Sequence[Tensor], at: Iterable[int]
) -> list[Group]:
    """Return the parameters' states with everything that their next step needs.

    `at` has their indices in the group, for errors. Even in inference mode the new tensors are
    ordinary ones, since the next step may be outside of it.
    """
    states = []
    with torch.inference_mode(False), torch.no_grad():
        for place, param in zip(at, params, strict=True):
            try:
                states.append(optimizer.complete(group, param))
            except (TypeError, ValueError) as error:
                add_place(error, f"params[{place}]")
                raise
    return states


def add_place(error: Exception, place: str) -> None:
    """Add the place to an error, unless it is about an environment variable."""
    if isinstance(error, InvalidSetting):
        return
    error.args = (f"{place}: {error}",)


def check_complete(group: Group, keys: Iterable[str], place: str) -> None:
    """Raise `ValueError` naming the first key that a group lacks."""
    for key in keys:
        if key not in group:
            raise ValueError(
                f"{place} has no {key!r}; put it back, or add the group with add_param_group, "
                f"which fills it in."
            ) from None


def complete_state(optimizer: SteppedOptimizer, group: Group, param: Tensor) -> Group:
    """Return the parameter's state with step, float states and master copy as its step needs."""
    state = complete_frame(optimizer, group, param)
    home, dtype = optimizer.home(param), state_dtype_for(param, group)
    for key in optimizer.state_keys(group):
        if key not in state:
            state[key] = optimizer.new_state(key, param.detach(), group, dtype)
            continue
        check_entry(state, key, param, optimizer.local)
        if state[key].dtype != dtype or state[key].device != home:
            state[key] = state[key].to(home, dtype)
    return state


def complete_frame(optimizer: SteppedOptimizer, group: Group, param: Tensor) -> Group:
    """Return the parameter's state with a step counter and, if it is wanted, a master copy."""
    state, home = entries_of(optimizer.state, param), optimizer.home(param)
    settle_step(state, group, param, home)
    if not wants_master(param, group, home):
        state.pop(MASTER, None)
    elif MASTER not in state:
        state[MASTER] = param.detach().to(home, torch.float32, copy=True)
    else:
        check_entry(state, MASTER, param, optimizer.local)
        if state[MASTER].dtype != torch.float32 or state[MASTER].device != home:
            state[MASTER] = state[MASTER].to(home, torch.float32)
    return state


def settle_step(state: Group, group: Group, param: Tensor, home: torch.device) -> None:
    """Give a parameter's state its own counter, a float32 scalar on the device of the states.

    Some optimizers count with a plain number, or once for a group.
    """
    name = "state['step']" if "step" in state else "step"
    step = check_counter(name, state.get("step", group.get("step", 0.0)), param)
    if not isinstance(step, Tensor):
        state["step"] = torch.tensor(step, dtype=torch.float32, device=home)
    elif "step" not in state or step.dtype != torch.float32 or step.device != home:
        state["step"] = step.to(home, torch.float32, copy=True)
