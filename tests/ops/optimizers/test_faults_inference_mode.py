"""Steps inside and outside of inference mode: the same on every rung, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from family_cases import OPTIMIZERS as ALL
from refusals import assert_refused, assert_steps, last, rung, rungs, trained
from torch import nn

assert rung  # The fixture that chooses the rung.


@rungs
@pytest.mark.parametrize("order", [(True, False), (True, True, False, False, True), (False, True)])
@pytest.mark.parametrize("cls", ALL)
def test_steps_in_any_order(cls: Any, order: tuple[bool, ...], rung: str) -> None:
    """What a step inside makes can be stepped outside: no state is of inference mode."""
    inside, outside = (trained(cls, 0, seed=3) for _ in range(2))
    for enabled in order:
        with torch.inference_mode(enabled):
            inside.step()
        outside.step()
    for group, other in zip(inside.param_groups, outside.param_groups, strict=True):
        for param, wanted in zip(group["params"], other["params"], strict=True):
            assert torch.equal(param, wanted)
            for key, value in inside.state[param].items():
                assert not value.is_inference(), key
                assert torch.equal(value, outside.state[wanted][key]), key


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_states_of_inference_mode(cls: Any, rung: str) -> None:
    """They are refused outside, whether they come at the first step or later, and taken inside."""
    for steps in (1, 4):
        optimizer = trained(cls, steps)
        assert_steps(optimizer)
        state = optimizer.state[last(optimizer)]
        for key, whole in list(state.items()):
            with torch.inference_mode():
                state[key] = whole.clone()
            assert_refused(optimizer, r"\[\d\] was made in inference mode")
            with torch.inference_mode():
                assert_steps(optimizer)
            assert_refused(optimizer, r"\[\d\] was made in inference mode")
            state[key] = whole
        assert_steps(optimizer)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_a_state_of_inference_mode_at_the_address_of_the_last_one(cls: Any, rung: str) -> None:
    """Native kernels step it, and the reference, which cannot, changes nothing."""
    optimizer = trained(cls, 4)
    state = optimizer.state[last(optimizer)]
    whole = state["step"]
    with torch.inference_mode():
        state["step"] = whole.new_empty(0).set_(whole.untyped_storage(), 0, ())
    assert state["step"].is_inference() and state["step"].data_ptr() == whole.data_ptr()
    if rung == "reference":
        assert_refused(optimizer, r"\[\d\] was made in inference mode")
    else:
        optimizer.step()


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_parameters_of_inference_mode(cls: Any, rung: str) -> None:
    with torch.inference_mode():
        param = nn.Parameter(torch.ones(300))
        param.grad = torch.ones(300)
        optimizer = cls([param])
        for _ in range(4):
            optimizer.step()
        before = param.detach().clone()
    with pytest.raises(ValueError, match=r"params\[0\] was made in inference mode"):
        optimizer.step()
    assert torch.equal(param, before)
