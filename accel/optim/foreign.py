"""Loading of other optimizers' states: converted by their meaning, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.ops.checks import FLOATS, check_kind, check_storage, is_dense
from accel.ops.optimizers.codes8bit import blocks, decode, memory_order
from accel.optim.policy import MASTER
from accel.optim.shards import like, local_of, own_scales, scales_shape

if TYPE_CHECKING:
    from accel.optim.stepped import SteppedOptimizer

Group = dict[str, Any]
MOMENTS = (("exp_avg", "exp_avg_scale", True), ("exp_avg_sq", "exp_avg_sq_scale", False))
"""Keys of a moment and of its scales if it is kept in 8 bits, and whether it is signed."""

_CODES = {key: (scale, signed) for key, scale, signed in MOMENTS}
_ADVICE = "Restore the tensor that a step stored there, or delete both to start anew."
_OPTIONAL = "max_exp_avg_sq"
_TORCHS = ("momentum_buffer", "square_avg", "acc_delta", "exp_inf")


def fitted(optimizer: SteppedOptimizer, state_dict: Group) -> Group:
    """Return a state in the form that the optimizer keeps: codes decoded if it keeps floats.

    Raises `ValueError` naming an entry that is incomplete, or that means something else in this
    optimizer: Lion's moment has the same key as Adam's first one, but another meaning.
    """
    telling = _telling()
    groups = {number: group for group in state_dict["param_groups"] for number in group["params"]}
    state = {}
    for number, entry in state_dict["state"].items():
        state[number] = entry
        if isinstance(entry, Mapping):
            state[number] = _fitted(optimizer, number, entry, telling)
            _check_whole(optimizer, number, state[number], groups.get(number, {}))
    return {**state_dict, "state": state}


def _telling() -> set[str]:
    """Return the keys that tell optimizers' states apart; other keys are the user's and stay."""
    found, classes = {*_TORCHS}, torch.optim.Optimizer.__subclasses__()
    while classes:
        kind: Any = classes.pop()
        classes += kind.__subclasses__()
        if hasattr(kind, "extra_keys"):  # A class of ours, or a subclass.
            found |= {*getattr(kind, "states", ()), *kind.extra_keys}
    return found


def _fitted(
    optimizer: SteppedOptimizer, number: Any, entry: Mapping[str, Any], telling: set[str]
) -> Group:
    kept = dict(entry)
    coded = {key: scale for key, scale, _ in MOMENTS if _is_coded(entry.get(key))}
    for key, scale in coded.items():
        _check_scales(optimizer, number, entry, key, scale)
    _check_not_cast(number, entry, {key: scale for key, scale, _ in MOMENTS if key not in coded})
    if coded and not optimizer.extra_keys:
        for key, scale in coded.items():
            kept[key] = floats(kept, key, f"The entry of parameter {number}: ")
            del kept[scale]
    own = {*optimizer.states, *optimizer.extra_keys}
    alien = sorted(key for key in telling - own if kept.get(key) is not None)
    if alien:
        raise _refusal(optimizer, number, f"has {alien}")
    needed = [key for key in optimizer.states if key != _OPTIONAL]
    missing = [key for key in needed if kept.get(key) is None]
    if missing and (len(missing) < len(needed) or _steps(kept) > 0):
        raise _refusal(optimizer, number, f"lacks {missing}")
    return kept


def _check_not_cast(number: Any, entry: Mapping[str, Any], uncoded: Mapping[str, str]) -> None:
    for key, scale in uncoded.items():
        if entry.get(key) is not None and entry.get(scale) is not None:
            raise ValueError(
                f"The entry of parameter {number} has {entry[key].dtype} as {key!r} beside "
                f"{scale!r}, which belongs to 8-bit codes: were codes cast to floats? Load the "
                f"state as it was saved, or save it as floats, with float_state_dict."
            )


def _check_whole(
    optimizer: SteppedOptimizer, number: Any, entry: Group, group: Mapping[str, Any]
) -> None:
    """Refuse an incomplete entry, which would restart at the first step; torch raises `KeyError`.

    The step may be counted by the group instead, and Lion, which corrects no bias, needs no count
    with a float moment.
    """
    begun = any(entry.get(key) is not None for key in (*optimizer.states, *optimizer.extra_keys))
    lacking = []
    if (
        begun
        and entry.get("step", group.get("step")) is None
        and not _is_uncounted(optimizer, entry)
    ):
        lacking.append("step")
    if _OPTIONAL in optimizer.states and group.get("amsgrad") and _steps(entry) > 0:
        lacking += [_OPTIONAL] * (entry.get(_OPTIONAL) is None)
    if lacking:
        raise ValueError(
            f"The entry of parameter {number} in this state lacks {', '.join(map(repr, lacking))}: "
            f"it is incomplete. Load all of it, or leave the parameter's entry out, so that "
            f"it starts anew."
        )


def _is_uncounted(optimizer: SteppedOptimizer, entry: Group) -> bool:
    """Return whether an entry needs no count: Lion's, unless its codes' noise follows the count."""
    return optimizer.family is not None and (
        optimizer.family.name == "lion"
        or (optimizer.family.name == "lion8bit" and not _is_coded(entry.get("exp_avg")))
    )


def _refusal(optimizer: SteppedOptimizer, number: Any, found: str) -> ValueError:
    name = type(optimizer).__name__
    keys = ", ".join((*optimizer.states, *optimizer.extra_keys, "step", MASTER))
    return ValueError(
        f"{name} cannot load this state of another optimizer, because it would misread it: the "
        f"entry of parameter {number} {found}, and {name} keeps {keys}. Load it into the class "
        f"that saved it, or start without it."
    )


def _steps(entry: Group) -> float:
    step = entry.get("step", 0.0)
    return float(step) if isinstance(step, int | float | Tensor) else 0.0


def _is_coded(moment: Any) -> bool:
    return isinstance(moment, Tensor) and moment.dtype == torch.uint8


def _check_scales(
    optimizer: SteppedOptimizer, number: Any, entry: Mapping[str, Any], key: str, scale: str
) -> None:
    codes, scales = entry[key], entry.get(scale)
    if not isinstance(scales, Tensor):
        raise _refusal(optimizer, number, f"has 8-bit codes as {key!r} and no {scale!r}")
    shape = scales_shape(codes)
    # Scales that are not tensors are refused by name when they are read.
    if scales.is_nested or scales.shape == shape:
        return
    if scales.dim() > 1:
        raise ValueError(
            f"The entry of parameter {number} has {scale!r} of shape {tuple(scales.shape)}, from a "
            f"parameter that was sharded differently; its codes need {shape}. Load it with as many "
            f"processes as saved it, or save it with float moments: "
            f"optimizer.register_state_dict_post_hook(Adam8bit.with_float_moments)."
        )
    raise ValueError(
        f"The entry of parameter {number} has {scales.numel()} numbers as {scale!r}; its "
        f"{codes.numel()} codes need {math.prod(shape)}. It is incomplete: load all of it."
    )


def floats(entry: Mapping[str, Any], key: str, place: str = "") -> Tensor:
    """Return the float32 values of a moment in a state's entry, kept as floats or as codes.

    Raises `TypeError` or `ValueError` naming the key, after `place`.
    """
    whole: Tensor = entry[key]
    moment = local_of(whole)
    name = f"{place}state[{key!r}]"
    check_kind(moment, name, (torch.uint8, *FLOATS))
    check_storage(moment, name)
    if moment.dtype != torch.uint8:
        return whole.float()
    scale_key, signed = _CODES[key]
    own: Group = {key: moment}
    if isinstance(entry.get(scale_key), Tensor):
        own[scale_key] = own_scales(entry[scale_key], moment)
    check_codes(own, key, place)
    values = torch.empty_like(moment, dtype=torch.float32)
    scales: Tensor = own[scale_key].float()
    memory_order(values).copy_(decode(memory_order(moment), scales, signed=signed))
    return like(values, whole)


def check_codes(entry: Mapping[str, Any], key: str, place: str = "") -> None:
    """Check that a moment's codes have scales, and fill their memory, whose order scales follow.

    Raises `TypeError` or `ValueError` naming the key, after `place`.
    """
    scale_key = _CODES[key][0]
    codes, name = entry[key], f"{place}state[{scale_key!r}]"
    scales: Any = entry.get(scale_key)
    if not is_dense(codes):
        raise TypeError(
            f"{place}state[{key!r}] has strides {codes.stride()} for shape {tuple(codes.shape)}; "
            f"8-bit codes must fill one block of memory, without gaps or overlaps. {_ADVICE}"
        )
    check_kind(scales, name, FLOATS)
    check_storage(scales, name)
    if not scales.is_contiguous():
        raise TypeError(
            f"{name} has strides {scales.stride()}; expected contiguous memory. {_ADVICE}"
        )
    if scales.device != codes.device:
        raise ValueError(
            f"{place}state[{key!r}] is on {codes.device} and state[{scale_key!r}] on "
            f"{scales.device}; expected one device. {_ADVICE}"
        )
    if scales.numel() != blocks(codes.numel()):
        raise ValueError(
            f"{name} has {scales.numel()} elements; expected {blocks(codes.numel())}, one for each "
            f"256 codes. {_ADVICE}"
        )


class Loading:
    """A state that is being loaded into an optimizer.

    Args:
        policies: precision policies of the optimizer's groups.
        state_dict: the state that is loaded.
    """

    def __init__(self, policies: list[Group], state_dict: Mapping[str, Any]) -> None:
        self.policies = policies
        self._state_dict = state_dict

    def states(self, groups: Sequence[Group]) -> Iterator[tuple[Any, Any]]:
        """Yield every entry of the state, under its parameter if it has one."""
        entries = dict(self._state_dict["state"])
        for saved, group in zip(self._state_dict["param_groups"], groups, strict=True):
            for number, param in zip(saved["params"], group["params"], strict=True):
                if number in entries:
                    yield param, entries.pop(number)
        yield from entries.items()
