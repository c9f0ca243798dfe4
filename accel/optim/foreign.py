"""States of other optimizers on their way into one: taken over by meaning, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.ops.checks import check_storage
from accel.ops.optimizers.codes8bit import blocks, decode, memory_order
from accel.optim.policy import MASTER

if TYPE_CHECKING:
    from accel.optim.base import KernelOptimizer

Group = dict[str, Any]
MOMENTS = (("exp_avg", "exp_avg_scale", True), ("exp_avg_sq", "exp_avg_sq_scale", False))
"""Keys of a moment and of its scales if it is kept in 8 bits, and whether it is signed."""

_OPTIONAL = "max_exp_avg_sq"
_TORCHS = ("momentum_buffer", "square_avg", "acc_delta", "exp_inf")


def fitted(optimizer: KernelOptimizer, state_dict: Group) -> Group:
    """Return a state as the optimizer keeps it: codes decoded where it keeps floats.

    Raises `ValueError` naming the entry that has another meaning there: Lion's moment is no half of
    Adam's, though it has the same key.
    """
    telling = _telling()
    state = {
        number: _fitted(optimizer, number, entry, telling) if isinstance(entry, Mapping) else entry
        for number, entry in state_dict["state"].items()
    }
    return {**state_dict, "state": state}


def _telling() -> set[str]:
    """Return what marks a state as an optimizer's; other keys are the user's own and stay."""
    found, classes = {*_TORCHS}, torch.optim.Optimizer.__subclasses__()
    while classes:
        kind: Any = classes.pop()
        classes += kind.__subclasses__()
        if hasattr(kind, "extra_keys"):  # One of ours, or made of it.
            found |= {*getattr(kind, "states", ()), *kind.extra_keys}
    return found


def _fitted(
    optimizer: KernelOptimizer, number: Any, entry: Mapping[str, Any], telling: set[str]
) -> Group:
    kept = dict(entry)
    coded = {key: scale for key, scale, _ in MOMENTS if _is_coded(entry.get(key))}
    for key, scale in coded.items():
        _check_codes(optimizer, number, entry, key, scale)
    if coded and not optimizer.extra_keys:
        for key, scale, signed in MOMENTS:
            if key in coded:
                kept[key] = floats(kept[key], kept.pop(scale), signed)
    own = {*optimizer.states, *optimizer.extra_keys}
    alien = sorted(key for key in telling - own if kept.get(key) is not None)
    if alien:
        raise _refusal(optimizer, number, f"has {alien}")
    needed = [key for key in optimizer.states if key != _OPTIONAL]
    missing = [key for key in needed if kept.get(key) is None]
    if missing and (len(missing) < len(needed) or _steps(kept) > 0):
        raise _refusal(optimizer, number, f"lacks {missing}")
    return kept


def _refusal(optimizer: KernelOptimizer, number: Any, found: str) -> ValueError:
    name = type(optimizer).__name__
    keys = ", ".join((*optimizer.states, *optimizer.extra_keys, "step", MASTER))
    return ValueError(
        f"{name} cannot take over this state, which another optimizer made: the entry of parameter "
        f"{number} {found}, and {name} keeps {keys}. Load it into the class that saved it, or go "
        f"on without it: it would be misread."
    )


def _steps(entry: Group) -> float:
    step = entry.get("step", 0.0)
    return float(step) if isinstance(step, int | float | Tensor) else 0.0


def _is_coded(moment: Any) -> bool:
    return isinstance(moment, Tensor) and moment.dtype == torch.uint8


def _check_codes(
    optimizer: KernelOptimizer, number: Any, entry: Mapping[str, Any], key: str, scale: str
) -> None:
    codes, scales = entry[key], entry.get(scale)
    if not isinstance(scales, Tensor):
        raise _refusal(optimizer, number, f"has 8-bit codes as {key!r} and no {scale!r}")
    if scales.numel() != blocks(codes.numel()):
        raise ValueError(
            f"The entry of parameter {number} has {scales.numel()} numbers as {scale!r}; its "
            f"{codes.numel()} codes need {blocks(codes.numel())}. It was not saved whole."
        )


def floats(moment: Tensor, scales: Tensor | None, signed: bool) -> Tensor:
    """Return a moment's float32 values, whichever way it is kept."""
    check_storage(moment, "A moment")
    if moment.dtype != torch.uint8 or scales is None:
        return moment.float()
    values = torch.empty_like(moment, dtype=torch.float32)
    memory_order(values).copy_(decode(memory_order(moment), scales.float(), signed=signed))
    return values


class Loading:
    """A state on its way into an optimizer.

    Args:
        policies: precision policies of the optimizer's groups.
        state_dict: what is loaded.
    """

    def __init__(self, policies: list[Group], state_dict: Mapping[str, Any]) -> None:
        self.policies = policies
        self._state_dict = state_dict

    def states(self, groups: Sequence[Group]) -> Iterator[tuple[Any, Any]]:
        """Yield every entry of the state, under its parameter where it has one."""
        entries = dict(self._state_dict["state"])
        for saved, group in zip(self._state_dict["param_groups"], groups, strict=True):
            for number, param in zip(saved["params"], group["params"], strict=True):
                if number in entries:
                    yield param, entries.pop(number)
        yield from entries.items()
