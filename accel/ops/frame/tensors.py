"""Plain tensors, which an address describes fully, and the form of results on every rung."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PLAIN = frozenset({Tensor, torch.nn.Parameter})
"""Types of tensors that are nothing but their memory; others go to the dispatcher."""


def has_own_dispatch(tensor: Tensor) -> bool:
    """Return whether a tensor's class defines operations itself."""
    return type(tensor) not in PLAIN and (
        type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
    )


def dense(result: Any, args: Sequence[Any] = ()) -> Any:
    """Return results in contiguous memory; a result that is an argument is copied."""
    if isinstance(result, tuple | list):
        return tuple(dense(one, args) for one in result)
    made = result.contiguous()
    return made.clone() if any(made is one for one in args) else made
