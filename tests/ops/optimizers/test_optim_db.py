"""torch's own table of optimizer inputs, run against ours beside torch's optimizers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing._internal.common_optimizers import (
    OptimizerErrorEnum,
    OptimizerInfo,
    OptimizerInput,
    optim_db,
)

from accel.optim import CPUAdagrad, CPUAdam, FusedAdagrad, FusedAdam

Make = Callable[..., torch.optim.Optimizer]


def adam(cls: type[FusedAdam], **fixed: Any) -> Make:
    return lambda params, **options: cls(params, **{**fixed, **options})


OURS: dict[type, list[Make]] = {
    torch.optim.Adam: [
        adam(FusedAdam, adam_w_mode=False),
        adam(CPUAdam, adamw_mode=False),
    ],
    torch.optim.AdamW: [adam(FusedAdam, weight_decay=1e-2), adam(CPUAdam, weight_decay=1e-2)],
    torch.optim.Adagrad: [FusedAdagrad, CPUAdagrad],
}
TABLE: list[OptimizerInfo] = [info for info in optim_db if info.optim_cls in OURS]
INPUTS = [
    pytest.param(info, number, given, id=f"{info.optim_cls.__name__}-{number}-{given.desc}")
    for info in TABLE
    for number in range(len(OURS[info.optim_cls]))
    for given in info.optim_inputs_func(device="cpu")
]
# torch's implementations disagree among themselves about these; ours has one and takes them.
TAKEN = ("as a Tensor is not supported", "must be either both floats or both Tensors")


def test_the_table_is_there() -> None:
    assert {info.optim_cls for info in TABLE} == set(OURS)


def parameters(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    make = torch.Generator().manual_seed(2)
    shapes = [(10, 5), (10,), (), (0,), (2, 3, 4)]
    return [torch.nn.Parameter(torch.randn(s, generator=make, dtype=dtype)) for s in shapes]


def step(params: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, index: int) -> None:
    make = torch.Generator().manual_seed(index)
    for number, param in enumerate(params):
        grad = torch.randn(param.shape, generator=make, dtype=param.dtype)
        param.grad = None if number == 1 and index == 2 else grad
    optimizer.step()


@pytest.mark.parametrize(("info", "number", "given"), INPUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs(
    info: OptimizerInfo, number: int, given: OptimizerInput, dtype: torch.dtype
) -> None:
    options = {**given.kwargs, "foreach": False}
    ours, theirs = parameters(dtype), parameters(dtype)
    mine = OURS[info.optim_cls][number](ours, **copy.deepcopy(options))
    torchs = info.optim_cls(theirs, **copy.deepcopy(options))
    for index in range(6):
        step(ours, mine, index)
        step(theirs, torchs, index)
    torch.testing.assert_close(ours, theirs)
    left, right = mine.state_dict(), torchs.state_dict()
    assert left["param_groups"][0]["params"] == right["param_groups"][0]["params"]
    for key, state in right["state"].items():
        torch.testing.assert_close(left["state"][key], state)
    mine.load_state_dict(copy.deepcopy(right))
    step(ours, mine, 9)
    step(theirs, torchs, 9)
    torch.testing.assert_close(ours, theirs)


ERRORS = [
    pytest.param(info, number, error, id=f"{info.optim_cls.__name__}-{number}-{index}")
    for info in TABLE
    for number in range(len(OURS[info.optim_cls]))
    for index, error in enumerate(info.optim_error_inputs_func(device="cpu", dtype=torch.float32))
]


@pytest.mark.parametrize(("info", "number", "error"), ERRORS)
def test_error_inputs(info: OptimizerInfo, number: int, error: Any) -> None:
    assert error.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
    given = error.optimizer_error_input
    make = OURS[info.optim_cls][number]
    if any(text in error.error_regex for text in TAKEN):
        make(parameters(torch.float32), **given.kwargs)
    elif issubclass(error.error_type, Warning):
        with pytest.warns(error.error_type, match=error.error_regex):
            make(given.params, **given.kwargs)
    else:
        with pytest.raises(error.error_type), warnings.catch_warnings():
            make(given.params, **given.kwargs)


@pytest.mark.parametrize("cls", [FusedAdam, CPUAdam, CPUAdagrad])
def test_complex_parameters_are_refused(cls: Make) -> None:
    param = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    optimizer = cls([param])
    with pytest.raises(TypeError, match=r"params\[0\] has dtype torch.complex64"):
        optimizer.step()
    assert not optimizer.state
