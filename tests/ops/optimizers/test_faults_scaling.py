"""The attributes that a `GradScaler` sets, set by hand to what no gradient can be divided by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from family_cases import OPTIMIZERS as ALL
from family_cases import Case, tensors_of
from refusals import assert_refused, assert_steps, last, rung, rungs, trained
from torch import nn

assert rung  # The fixture that chooses the rung.

NO_SCALES: tuple[Any, ...] = (
    0.0, 1e-50, 1e-44, float("nan"), float("inf"), -float("inf"), 1e39, 10**400, 0,
    -1.0, -65536, -1e-50, -(2.0**-127), -1e39,
)  # fmt: skip
NO_SCALARS: tuple[Any, ...] = (
    "x", [1.0], True, torch.ones(2), torch.ones(0), torch.ones(1) * 1j, torch.ones(1).to_sparse(),
    torch.ones((), device="meta"), np.ones(1),
)  # fmt: skip


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_scales_that_no_gradient_can_be_divided_by(cls: Any, rung: str) -> None:
    optimizer = trained(cls)
    for value in NO_SCALES:
        optimizer.grad_scale = value
        assert_refused(optimizer, r"^grad_scale is ")
        if isinstance(value, float):
            for dtype in (torch.float32, torch.float64, torch.float16):
                optimizer.grad_scale = torch.tensor(value, dtype=dtype)
                assert_refused(optimizer, r"^grad_scale is ")
    del optimizer.grad_scale
    assert_steps(optimizer)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_scalars_of_odd_kinds(cls: Any, rung: str) -> None:
    optimizer = trained(cls)
    for name in ("grad_scale", "found_inf"):
        for value in NO_SCALARS:
            if value is True:
                continue
            setattr(optimizer, name, value)
            assert_refused(optimizer, rf"^{name} (is|has) ")
        delattr(optimizer, name)
    assert_steps(optimizer)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_scalars_that_are_fine(cls: Any, rung: str) -> None:
    results = []
    for scale in (4.0, 4, np.float64(4), torch.tensor(4), torch.tensor([4.0]), np.float32(4)):
        optimizer = trained(cls)
        optimizer.grad_scale = scale
        for found_inf in (False, 0.0, torch.tensor(False), torch.zeros(1, dtype=torch.int64)):
            optimizer.found_inf = found_inf
            optimizer.step()
        results.append(last(optimizer).detach())
        for found_inf in (True, 1.0, 1e-50, float("inf"), torch.tensor(True)):
            optimizer.found_inf = found_inf
            optimizer.step()
            assert torch.equal(last(optimizer), results[-1])
    assert all(torch.equal(found, results[0]) for found in results)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_a_scale_that_is_not_used(cls: Any, rung: str) -> None:
    """A scaler that halves its scale for long comes to 0, and says that infinities were found."""
    optimizer = trained(cls)
    before = last(optimizer).detach().clone()
    optimizer.grad_scale, optimizer.found_inf = torch.zeros(()), torch.ones(())
    optimizer.step()
    assert torch.equal(before, last(optimizer))


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_every_scale_that_a_scaler_comes_to(cls: Any, rung: str) -> None:
    for scale in (2.0**-126, 2.0**127, 3e38):
        param = nn.Parameter(torch.ones(3))
        optimizer = cls([param], lr=0.1)
        optimizer.grad_scale = torch.tensor(scale)
        param.grad = torch.full((3,), min(scale, 1e38))
        optimizer.step()
        assert param.isfinite().all() and not torch.equal(param, torch.ones(3))


@rungs
def test_the_dispatchers_op(case: Case, rung: str) -> None:
    op = case.builder().load() if rung == "native" else case.reference()
    values = [-1.0, -float("inf"), -1e-45, 0.0, float("nan"), float("inf"), 1e-45]
    lists, before = (case.lists([(30,)]) for _ in range(2))
    for value in values:
        with pytest.raises(ValueError, match=r"^grad_scale is "):
            op.kernel.family.dispatch(
                op.kernel.key, lists, case.hyper(grad_scale=torch.tensor(value))
            )
        if value < 0:
            with pytest.raises(ValueError, match=r"^grad_scale is "):
                hyper = case.hyper(grad_scale=torch.tensor(value), clipped=True)
                op.kernel.family.dispatch(op.kernel.key, lists, hyper)
    assert all(map(torch.equal, tensors_of(lists), tensors_of(before)))
