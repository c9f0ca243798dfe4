"""Triton kernels in Triton's interpreter."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest
import torch
from device_reductions import LAMB_HYPER, lamb_lists
from triton.runtime import interpreter

from accel.ops.optimizers.kernel import kernel_for
from accel.ops.optimizers.reference.lamb import LAMB
from accel.ops.optimizers.triton import Portable, optimizer


def backwards(*ends: int) -> Iterable[int]:
    """`range`, but a grid's programs come in the opposite order."""
    numbers = range(*ends)
    return reversed(numbers) if sys._getframe(1).f_code.co_name == "__call__" else numbers


def norms() -> list[list[float]]:
    """Return LAMB's norms of tensors whose sums have other last bits in another order."""
    given = lamb_lists(*range(20_000, 20_004), 1, 20_000, 0, 1024)
    for tensor in given.roles["params"]:
        tensor *= torch.linspace(0.1, 3.0, len(tensor))
    kernel_for(LAMB, Portable(), "cpu").run(given, LAMB_HYPER)
    return [norm.tolist() for norm in given.extras["norms"]]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy tells of every NaN and overflow
def test_norms_do_not_depend_on_the_order_of_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "_PARTIALS", 2, raising=False)
    forwards = norms()
    assert forwards[6] == [0.0, 0.0]
    monkeypatch.setattr(interpreter, "range", backwards, raising=False)
    assert norms() == forwards
