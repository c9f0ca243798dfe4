"""The precision policy: types of states and master copies, and how results become 16 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.abi import DTYPES, ROUNDING

Policy = Mapping[str, Any]
PARAM = "param"
MASTER = "master"
DEFAULT_SEED = 0
"""The default seed: not torch's, which may differ between the processes of replicas."""

POLICY_KEYS = ("state_dtype", "master_dtype", "rounding", "seed")


def policy_of(state_dtype: Any, master_dtype: Any, rounding: Any, seed: Any) -> Policy:
    """Return a constructor's arguments as a policy, not yet checked."""
    return dict(zip(POLICY_KEYS, (state_dtype, master_dtype, rounding, seed), strict=True))


def check_policy(policy: Policy, *, seeded: bool = False) -> dict[str, Any]:
    """Return the policy's entries; raises `TypeError` or `ValueError` naming the one that is wrong.

    They are plain values, so that a group can be saved in every way: dtypes are given by name.

    Args:
        policy: ``state_dtype`` (`torch.dtype`, ``"param"``: the parameter's, or ``None``:
            float32, float64 for float64 parameters), ``master_dtype`` (``torch.float32`` or
            ``None``: no master copies), ``rounding`` (``"nearest"`` or ``"stochastic"``) and
            ``seed`` (int from 0 to 2**64 - 1, or ``None``: `DEFAULT_SEED`). Dtypes may be given by
            name, too.
        seeded: whether random bits are needed even with nearest rounding.
    """
    state_dtype, master_dtype = policy["state_dtype"], policy["master_dtype"]
    if not _is_one_of(state_dtype, (None, PARAM, *map(_name, DTYPES))):
        raise TypeError(
            f"state_dtype is {checks.shown(state_dtype)}; expected None, torch.float32, "
            f"torch.bfloat16, torch.float16 or {PARAM!r}."
        )
    if not _is_one_of(master_dtype, (None, "float32")):
        raise TypeError(
            f"master_dtype is {checks.shown(master_dtype)}; expected None or torch.float32."
        )
    rounding = policy["rounding"]
    if not _is_one_of(rounding, tuple(ROUNDING)):
        raise ValueError(
            f"rounding is {checks.shown(rounding)}; expected 'nearest' or 'stochastic'."
        )
    seed = policy["seed"]
    if seed is not None:
        checks.check_seed(seed)
    if seed is None and (seeded or policy["rounding"] == "stochastic"):
        seed = DEFAULT_SEED
    return {
        "state_dtype": _name(state_dtype),
        "master_dtype": _name(master_dtype),
        "rounding": policy["rounding"],
        "seed": seed,
    }


def _is_one_of(value: Any, known: tuple[str | None, ...]) -> bool:
    # Comparing anything else, such as an array, may not give a bool.
    return isinstance(value, str | torch.dtype | None) and _name(value) in known


def _name(dtype: Any) -> Any:
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype | str) else dtype


def keep_policy(group: dict[str, Any], own: Policy) -> None:
    """Give a loaded group the policy of the one that it replaces.

    The seed is the loaded one, if there is one: a resumed run draws the same random bits.
    """
    seed = group.get("seed")
    group.update(own)
    if seed is not None:
        group["seed"] = seed


def state_dtype_for(param: Tensor, policy: Policy) -> torch.dtype:
    """Return the element type of a parameter's states."""
    if param.dtype == torch.float64:
        return torch.float64
    chosen: Any = policy["state_dtype"]
    if chosen == PARAM:
        return param.dtype
    if chosen is None:
        return torch.float32
    found: torch.dtype = getattr(torch, _name(chosen))
    return found


def wants_master(param: Tensor, policy: Policy, home: torch.device) -> bool:
    """Return whether a parameter gets a float32 master copy.

    A 16-bit parameter gets one if asked for, and every parameter whose states are on another
    device.
    """
    asked = policy["master_dtype"] is not None and param.element_size() == 2
    return asked or param.device != home
