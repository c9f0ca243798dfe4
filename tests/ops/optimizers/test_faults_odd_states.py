"""Tensors of odd layouts in the place of states: refused by key, whatever they are and wherever."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from family_cases import OPTIMIZERS as ALL
from refusals import REFUSED, assert_steps, last, rung, rungs, trained
from torch import Tensor

from accel import optim

assert rung  # The fixture that chooses the rung.

KEYS = ("exp_avg", "exp_avg_sq_scale")


def freed(tensor: Tensor) -> Tensor:
    copied = tensor.clone()
    copied.untyped_storage().resize_(0)
    return copied


def nested(tensor: Tensor, **options: Any) -> Tensor:
    parts = [tensor.flatten()[:1], tensor.flatten()[:1]]
    return torch.nested.nested_tensor(parts, **options)


WITHOUT_MEMORY: dict[str, Callable[[Tensor], Any]] = {
    "sparse": Tensor.to_sparse,
    "nested": nested,
    "jagged": lambda tensor: nested(tensor, layout=torch.jagged),
    "meta": lambda tensor: tensor.to("meta"),
    "freed": freed,
}
STRIDES: dict[str, Callable[[Tensor], Tensor]] = {
    "expanded": lambda tensor: tensor[:1].expand(tensor.shape),
    "of one byte": lambda tensor: tensor.new_zeros(()).expand(tensor.shape),
    "gapped": lambda tensor: torch.stack([tensor, tensor], -1)[..., 0],
}


def assert_refused(optimizer: Any, match: str) -> None:
    """Assert that a step names what is wrong, twice, and that states and parameter stay."""
    state, param = optimizer.state[last(optimizer)], last(optimizer).detach()
    before, kept = {**state}, param.clone()
    for _ in range(2):
        with pytest.raises(REFUSED, match=match):
            optimizer.step()
        assert torch.equal(param, kept)
        assert state.keys() == before.keys() and all(state[key] is before[key] for key in state)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@rungs
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", [*WITHOUT_MEMORY, *STRIDES])
def test_8bit_states_of_odd_layouts(kind: str, key: str, rung: str) -> None:
    made = (WITHOUT_MEMORY | STRIDES)[kind]
    for steps in (1, 4):
        optimizer = trained(optim.Adam8bit, steps)
        state = optimizer.state[last(optimizer)]
        whole = state[key]
        assert_steps(optimizer)
        state[key] = made(whole)
        assert_refused(optimizer, rf"params\[2\]: state\['{key}'\] (is|has|needs) ")
        with pytest.raises(REFUSED, match=rf"The state of parameter 3: .*state\['{key}'\] "):
            optimizer.float_state_dict()
        state[key] = whole
        assert_steps(optimizer)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@rungs
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", [*WITHOUT_MEMORY, *STRIDES])
@pytest.mark.parametrize("cls", [optim.Adam8bit, optim.FusedAdam])
def test_saved_codes_of_odd_layouts(cls: Any, kind: str, key: str, rung: str) -> None:
    """Into floats they are decoded at once; as codes they are judged by the step."""
    whole = trained(optim.Adam8bit).state_dict()
    saved = {**whole, "state": {n: {**entry} for n, entry in whole["state"].items()}}
    saved["state"][3][key] = (WITHOUT_MEMORY | STRIDES)[kind](saved["state"][3][key])
    optimizer = trained(cls, 1)
    before = copy.deepcopy(optimizer.state_dict()["state"][3])
    try:
        optimizer.load_state_dict(saved)
    except REFUSED as error:
        assert "parameter 3" in str(error) and key in str(error)
        for name, value in optimizer.state[last(optimizer)].items():
            assert torch.equal(value, before[name])
        assert_steps(optimizer)
    else:
        assert cls is optim.Adam8bit
        assert_refused(optimizer, rf"params\[2\]: state\['{key}'\] (is|has|needs) ")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@rungs
@pytest.mark.parametrize("cls", ALL)
def test_nested_tensors_in_a_state(cls: Any, rung: str) -> None:
    """They call themselves strided, and have no shape."""
    optimizer = trained(cls)
    state = optimizer.state[last(optimizer)]
    for key, whole in list(state.items()):
        state[key] = nested(whole.float())
        assert_refused(optimizer, rf"params\[2\]: state\['{key}'\] is a nested tensor")
        state[key] = whole
    assert_steps(optimizer)


@rungs
def test_a_float_state_dict_of_what_has_no_moments(rung: str) -> None:
    optimizer = trained(optim.Adam8bit)
    optimizer.state[last(optimizer)] = {"note": "mine"}
    found = optimizer.float_state_dict()["state"]
    assert found[3] == {"note": "mine"}
    assert found[2]["exp_avg"].dtype == torch.float32
    other = trained(optim.Adam8bit)
    del other.state[last(other)]["exp_avg_scale"]
    with pytest.raises(TypeError, match=r"parameter 3: state\['exp_avg_scale'\] is a NoneType"):
        other.float_state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_codes_that_were_cast_to_floats_are_no_moments(dtype: torch.dtype) -> None:
    optimizer = trained(optim.Adam8bit)
    saved = optimizer.state_dict()
    entry = next(iter(saved["state"].values()))
    for key in ("exp_avg", "exp_avg_sq"):
        entry[key] = entry[key].to(dtype)
    with pytest.raises(ValueError, match="which belongs to 8-bit codes"):
        trained(optim.Adam8bit).load_state_dict(saved)
