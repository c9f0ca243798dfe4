"""Saved states of which a part is missing: refused by parameter and key, and nothing is changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from family_cases import OPTIMIZERS as ALL
from refusals import assert_steps, trained
from torch import nn

from accel import optim

LIONS = (optim.FusedLion, optim.CPULion)


def assert_not_loaded(optimizer: Any, saved: Any, match: str) -> None:
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=match):
        optimizer.load_state_dict(saved)
    after = optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"]
    for number, entry in before["state"].items():
        assert entry.keys() == after["state"][number].keys()
        assert all(torch.equal(value, after["state"][number][key]) for key, value in entry.items())
    assert_steps(optimizer)


@pytest.mark.parametrize("gone", ["deleted", None])
@pytest.mark.parametrize("cls", ALL)
def test_a_saved_state_without_a_key(cls: Any, gone: Any) -> None:
    whole = copy.deepcopy(trained(cls).state_dict())
    for key in whole["state"][2]:
        saved = copy.deepcopy(whole)
        if gone is None:
            saved["state"][2][key] = None
        else:
            del saved["state"][2][key]
        optimizer = trained(cls, 1)
        lost_scale = key.endswith("_scale")
        if key == "step" and cls in LIONS:
            # Lion corrects no bias, and its authors' own optimizer keeps no counter.
            saved["state"][2].pop(key, None)
            optimizer.load_state_dict(saved)
            assert_steps(optimizer)
            continue
        said = rf"parameter 2 .*(lacks|no) .*'{key}'" if not lost_scale else f"2 .* no '{key}'"
        assert_not_loaded(optimizer, saved, said)


def test_amsgrad_without_its_maximum() -> None:
    saved = copy.deepcopy(trained(optim.FusedAdam, amsgrad=True).state_dict())
    for key in ("max_exp_avg_sq", "step"):
        lacking = copy.deepcopy(saved)
        del lacking["state"][3][key]
        assert_not_loaded(trained(optim.FusedAdam, 1), lacking, f"parameter 3 .* lacks '{key}'")


@pytest.mark.parametrize("cls", ALL)
def test_parameters_without_a_state_start_anew(cls: Any) -> None:
    """Of one parameter there is nothing, of one an empty entry, of one the user's own only."""
    saved = copy.deepcopy(trained(cls).state_dict())
    del saved["state"][0]
    saved["state"][2] = {}
    saved["state"][3] = {"note": "mine"}
    optimizer = trained(cls, 1)
    optimizer.load_state_dict(saved)
    assert_steps(optimizer)


def test_a_group_may_count_for_its_parameters() -> None:
    saved = copy.deepcopy(trained(optim.FusedAdam).state_dict())
    for entry in saved["state"].values():
        del entry["step"]
    for group in saved["param_groups"]:
        group["step"] = 3
    optimizer = trained(optim.FusedAdam, 1)
    optimizer.load_state_dict(saved)
    optimizer.step()
    assert all(float(state["step"]) == 4.0 for state in optimizer.state.values())


def test_what_torch_does() -> None:
    """torch refuses such a state, too, by a bare key."""
    param = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([param])
    param.grad = torch.ones(3)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["state"][0]["step"]
    with pytest.raises(KeyError, match="step"):
        torch.optim.AdamW([param]).load_state_dict(saved)
