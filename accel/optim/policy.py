"""The precision policy: types of states and master copies, and how results become 16 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from accel.ops import abi

Policy = Mapping[str, Any]
PARAM = "param"
MASTER = "master"
DEFAULT_SEED = 0
"""The seed that nobody gave: not torch's, which differs between processes of replicas."""

POLICY_KEYS = ("state_dtype", "master_dtype", "rounding", "seed")


def check_policy(policy: Policy, *, seeded: bool = False) -> dict[str, Any]:
    """Return the policy's entries; raises `TypeError` or `ValueError` naming the one that is wrong.

    They are plain values, which every way of saving a group knows: dtypes are given by their names.

    Args:
        policy: ``state_dtype`` (`torch.dtype`, ``"param"``: the parameter's, or ``None``:
            float32, float64 for float64 parameters), ``master_dtype`` (``torch.float32`` or
            ``None``: no master copies), ``rounding`` (``"nearest"`` or ``"stochastic"``) and
            ``seed`` (int, or ``None``: `DEFAULT_SEED`). Dtypes may be given by name, too.
        seeded: whether random bits are needed whatever the rounding.
    """
    state_dtype, master_dtype = policy["state_dtype"], policy["master_dtype"]
    known = (None, PARAM, *map(_name, abi.DTYPES))
    if _name(state_dtype) not in known:
        raise TypeError(
            f"state_dtype is {state_dtype!r}; expected None, torch.float32, torch.bfloat16, "
            f"torch.float16 or {PARAM!r}."
        )
    if _name(master_dtype) not in (None, "float32"):
        raise TypeError(f"master_dtype is {master_dtype!r}; expected None or torch.float32.")
    if policy["rounding"] not in abi.ROUNDING:
        raise ValueError(f"rounding is {policy['rounding']!r}; expected 'nearest' or 'stochastic'.")
    seed = policy["seed"]
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise TypeError(f"seed is {seed!r}; expected an int or None.")
    if seed is None and (seeded or policy["rounding"] == "stochastic"):
        seed = DEFAULT_SEED
    return {
        "state_dtype": _name(state_dtype),
        "master_dtype": _name(master_dtype),
        "rounding": policy["rounding"],
        "seed": seed,
    }


def _name(dtype: Any) -> Any:
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype | str) else dtype


def keep_policy(group: dict[str, Any], own: Policy) -> None:
    """Give a loaded group the policy of the one that it replaces.

    The seed is the loaded one where there is one: a resumed run goes on with the same random bits.
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

    One of 16 bits does where asked for, and any whose states are on another device.
    """
    asked = policy["master_dtype"] is not None and param.element_size() == 2
    return asked or param.device != home
