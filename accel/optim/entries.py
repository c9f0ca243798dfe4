"""Checks of the entries of a parameter's state, before anything uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from accel.ops import checks

Group = dict[str, Any]
_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def entries_of(states: Any, param: Tensor) -> Group:
    """Return a parameter's state, creating it if there is none; `TypeError` if it is not a dict."""
    found: Any = states.setdefault(param, {})
    if not isinstance(found, dict):
        raise TypeError(
            f"the optimizer's state is a {type(found).__name__}; expected a dict. Delete it to "
            f"start anew."
        )
    return found


def moved(entry: Any, param: Any, home: Callable[[Tensor], torch.device]) -> Any:
    """Return a loaded entry of the state with its tensors on the device of the states."""
    if not isinstance(param, Tensor) or not isinstance(entry, dict):
        return entry
    device = home(param)
    return {
        name: value.to(device) if isinstance(value, Tensor) and not value.is_meta else value
        for name, value in entry.items()
    }


def check_states(states: Any) -> None:
    """Raise `TypeError` unless `states` can be an optimizer's `state`."""
    if not isinstance(states, dict):
        raise TypeError(
            f"state is a {type(states).__name__}; expected a dict with a dict for each parameter."
        )


def check_entry(
    state: Group,
    key: str,
    param: Tensor,
    local: Callable[[Tensor], Tensor],
    dtypes: Sequence[torch.dtype] = checks.FLOATS,
    shape: tuple[int, ...] | None = None,
) -> Tensor:
    """Return the tensor of a state's entry; raises `TypeError` or `ValueError` naming the key.

    Its type and device may differ from those that the step needs, but its values must be
    convertible: complex numbers and codes are not, and tensors on the meta device have no values.

    Args:
        state: the parameter's state, which has the key.
        key: the entry's key.
        param: the parameter.
        local: returns this process's part of a tensor.
        dtypes: the allowed element types.
        shape: shape of the whole entry, if it is not the parameter's.
    """
    name = f"state[{key!r}]"
    entry: Tensor = state[key]
    advice = "Restore the tensor that a step stored there, or delete the entry to start anew."
    try:
        checks.check_kind(entry, name, dtypes)
    except TypeError as error:
        raise TypeError(f"{error} {advice}") from None
    _check_place(entry, name, param)
    if shape is not None:
        if entry.shape != shape:
            raise ValueError(f"{name} has shape {tuple(entry.shape)}; expected {shape}. {advice}")
        return entry
    found, wanted = local(entry).shape, local(param).shape
    if found != wanted:
        raise ValueError(
            f"{name} has shape {tuple(found)}, but the parameter has {tuple(wanted)}. {advice}"
        )
    return local(entry)


def check_counter(name: str, step: Any, param: Tensor) -> float | Tensor:
    """Return a count of steps, a number or a tensor; raises naming it as `check_entry` does."""
    if not isinstance(step, Tensor):
        return checks.check_not_negative(name, step)
    checks.check_kind(step, name, (*checks.FLOATS, *_WHOLE))
    _check_place(step, name, param)
    if step.numel() != 1:
        raise ValueError(f"{name} has {step.numel()} elements; expected one number.")
    return step


def _check_place(tensor: Tensor, name: str, param: Tensor) -> None:
    if tensor.device.type == "meta" != param.device.type:
        raise ValueError(
            f"{name} is on meta, where tensors have no values, but the parameter is on "
            f"{param.device}. Load a state, or delete the entry to start anew."
        )
    checks.check_storage(tensor, name)
