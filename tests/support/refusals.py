"""Optimizers that have stepped, and what a refused step leaves as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from accel.errors import Unsupported

REFUSED = (TypeError, ValueError, Unsupported)


# Without `indirect` the parameter would take the fixture's place.
rungs = pytest.mark.parametrize("rung", ["native", "reference"], indirect=True)


@pytest.fixture
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Choose the rung that a test's parameter names."""
    monkeypatch.setenv("ACCEL_OPS", request.param)
    return str(request.param)


def trained(cls: Any, steps: int = 3, **options: Any) -> Any:
    """Return an optimizer of two groups after some steps, with gradients for the next one."""
    make = torch.Generator().manual_seed(5)
    dtype = torch.bfloat16 if "master_dtype" in options else torch.float32
    params = [nn.Parameter(torch.randn(20, 13, generator=make).to(dtype)) for _ in range(4)]
    optimizer = cls([{"params": params[:1]}, {"params": params[1:]}], lr=0.01, **options)
    for step in range(steps + 1):
        for param in params:
            param.grad = torch.randn(20, 13, generator=make).to(dtype)
        params[1].grad = None
        if step < steps:
            optimizer.step()
    return optimizer


def last(optimizer: Any) -> Tensor:
    """Return the last parameter; it is params[2] of the second group."""
    param: Tensor = optimizer.param_groups[1]["params"][2]
    return param


def shown(optimizer: Any) -> tuple[list[Tensor], dict[Any, Any], dict[Any, dict[str, int]]]:
    """Return copies of parameters and states, and which objects the states hold."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    states = {param: state for param, state in optimizer.state.items() if isinstance(state, dict)}
    return (
        [param.detach().clone() for param in params],
        copy.deepcopy({id(param): state for param, state in states.items()}),
        {id(param): {key: id(value) for key, value in state.items()}
         for param, state in states.items()},
    )  # fmt: skip


def assert_refused(optimizer: Any, match: str) -> None:
    """Assert that a step names what is wrong, twice, and that it changes nothing."""
    before = shown(optimizer)
    for _ in range(2):
        with pytest.raises(REFUSED, match=match):
            optimizer.step()
        after = shown(optimizer)
        assert all(map(torch.equal, before[0], after[0]))
        assert before[2] == after[2]
        for key, state in before[1].items():
            for name, value in state.items():
                if isinstance(value, Tensor) and not value.is_sparse and not value.is_meta:
                    assert torch.equal(value, after[1][key][name])


def assert_steps(optimizer: Any) -> None:
    """Assert that the optimizer still steps."""
    before = last(optimizer).detach().clone()
    optimizer.step()
    assert not torch.equal(before, last(optimizer))
