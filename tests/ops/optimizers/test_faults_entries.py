"""What users put into groups and states between steps: refused by name, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from family_cases import CODED
from family_cases import OPTIMIZERS as ALL
from refusals import REFUSED, assert_refused, assert_steps, last, rung, rungs, trained
from torch import Tensor, nn

from accel import optim

__all__ = ["rung"]


HUGE = 10**400


GROUPS: tuple[tuple[str, Any], ...] = (
    ("rounding", "x"), ("rounding", None), ("rounding", torch.ones(2)), ("rounding", ["nearest"]),
    ("state_dtype", "float7"), ("state_dtype", torch.int8), ("state_dtype", torch.ones(3)),
    ("state_dtype", 16), ("master_dtype", "float16"), ("master_dtype", True), ("seed", 2**70),
    ("seed", 2**64), ("seed", -1), ("seed", 1.0), ("seed", True), ("seed", "1"),
    ("seed", torch.ones(2)), ("lr", None), ("lr", float("nan")), ("lr", [0.1]), ("lr", HUGE),
    ("lr", torch.ones(2)), ("lr", torch.ones((), device="meta")),
    ("weight_decay", "0"), ("weight_decay", -1.0), ("differentiable", True),
)  # fmt: skip


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_what_is_put_into_a_group(cls: Any, rung: str) -> None:
    for key, value in GROUPS:
        optimizer = trained(cls)
        group = optimizer.param_groups[1]
        kept, group[key] = group[key], value
        place = "differentiable" if key == "differentiable" else rf"^param_groups\[1\]: {key} "
        assert_refused(optimizer, place)
        group[key] = kept
        assert_steps(optimizer)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_construction_refuses_the_same(cls: Any, rung: str) -> None:
    for key, value in GROUPS:
        if cls in CODED and key == "state_dtype":
            continue
        for make in (
            lambda: cls([nn.Parameter(torch.ones(3))], **{key: value}),  # noqa: B023
            lambda: trained(cls).add_param_group({"params": [nn.Parameter(torch.ones(3))],
                                                  key: value}),  # noqa: B023
        ):  # fmt: skip
            with pytest.raises(REFUSED, match=f"^{key}"):
                make()


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_a_key_that_a_group_lacks(cls: Any, rung: str) -> None:
    optimizer = trained(cls)
    group = optimizer.param_groups[1]
    unused = {"foreach", "capturable", "fused"}
    for key in {*optimizer.defaults} - unused:
        value = group.pop(key)
        assert_refused(optimizer, rf"^param_groups\[1\] has no '{key}'; put it back")
        group[key] = value
    assert_steps(optimizer)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_changes_that_are_meant(cls: Any, rung: str) -> None:
    optimizer, other = trained(cls), trained(cls)
    for group in optimizer.param_groups:
        group.update(
            seed=7, rounding="stochastic", lr=torch.tensor(0.02, dtype=torch.float64), foreach=True
        )
    for group in other.param_groups:
        group.update(seed=7, rounding="stochastic", lr=0.02)
    assert_steps(optimizer)
    assert_steps(other)
    torch.testing.assert_close(last(optimizer), last(other), rtol=0, atol=0)


ENTRIES: dict[str, Callable[[Tensor], Any]] = {
    "None": lambda t: None,
    "list": lambda t: t.tolist(),
    "int": lambda t: 3,
    "text": lambda t: "x",
    "meta": lambda t: t.to("meta"),
    "sparse": lambda t: t.to_sparse(),
    "complex": lambda t: t.to(torch.complex64),
    "whole": lambda t: t.to(torch.int32),
    "bool": lambda t: t.to(torch.bool),
    "shape": lambda t: t.reshape(-1)[:-1],
    "flat": lambda t: t.reshape(-1),
    "longer": lambda t: torch.stack([t, t]),
}


@rungs
@pytest.mark.parametrize("what", ENTRIES)
@pytest.mark.parametrize("cls", ALL)
def test_what_is_put_into_a_state(cls: Any, what: str, rung: str) -> None:
    for options in ({}, {"master_dtype": "float32"}):
        optimizer = trained(cls, **options)
        state = optimizer.state[last(optimizer)]
        for key in [*state]:
            if key == "step" or (key in cls.extra_keys and what == "flat"):
                continue
            kept, state[key] = state[key], ENTRIES[what](state[key])
            assert_refused(optimizer, rf"^param_groups\[1\]: params\[2\]: state\['{key}'\] ")
            state[key] = kept
        assert_steps(optimizer)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_what_is_put_in_the_place_of_a_counter(cls: Any, rung: str) -> None:
    for value in (
        None, "x", [1.0], -1, float("nan"), float("inf"), HUGE, True, torch.ones(3), torch.ones(0),
        torch.ones((), device="meta"), torch.ones(1).to_sparse(), torch.ones(1) * 1j,
    ):  # fmt: skip
        optimizer = trained(cls)
        state = optimizer.state[last(optimizer)]
        kept, state["step"] = state["step"], value
        assert_refused(optimizer, r"^param_groups\[1\]: params\[2\]: state\['step'\] ")
        state["step"] = kept
        assert_steps(optimizer)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_what_is_put_in_the_place_of_a_state(cls: Any, rung: str) -> None:
    optimizer = trained(cls)
    kept = optimizer.state
    for value in ([], None, 3, torch.ones(3)):
        optimizer.state[last(optimizer)], mine = value, kept[last(optimizer)]
        assert_refused(optimizer, r"^param_groups\[1\]: params\[2\]: the optimizer's state is a ")
        optimizer.state[last(optimizer)] = mine
        optimizer.state = value
        with pytest.raises(TypeError, match=r"^state is a "):
            optimizer.step()
        optimizer.state = kept
    assert_steps(optimizer)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_a_later_group_that_is_refused_leaves_the_first_one_as_it_was(cls: Any, rung: str) -> None:
    optimizer = trained(cls, steps=0)
    optimizer.state[last(optimizer)]["step"] = "x"
    assert_refused(optimizer, r"^param_groups\[1\]")
    assert [*optimizer.state] == [last(optimizer)]
    optimizer.state.clear()
    assert_steps(optimizer)


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_states_of_other_real_types_are_still_converted(cls: Any, rung: str) -> None:
    optimizer = trained(cls)
    key = next(iter(cls.states))
    state = optimizer.state[last(optimizer)]
    if cls not in CODED:
        for dtype in (torch.bfloat16, torch.float64):
            state[key] = state[key].to(dtype)
            assert_steps(optimizer)
            assert state[key].dtype == torch.float32
    for step in (5, torch.tensor(6), torch.tensor([7.0], dtype=torch.float64)):
        state["step"] = step
        assert_steps(optimizer)
        assert state["step"].item() == int(step) + 1


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_a_counter_of_two_parameters(cls: Any, rung: str) -> None:
    """Each implementation of torch makes other numbers of it."""
    for shared in (lambda step: step, lambda step: step.view(())):
        optimizer = trained(cls)
        states = [optimizer.state[param] for param in optimizer.param_groups[1]["params"][1:]]
        optimizer.param_groups[1]["params"][0].grad = None
        kept, states[1]["step"] = states[1]["step"], shared(states[0]["step"])
        assert_refused(optimizer, r"^param_groups\[1\]: s.*(its own|step'\]\.clone)")
        states[1]["step"] = kept
        assert_steps(optimizer)


@rungs
def test_a_counter_of_parameters_that_two_kernels_step(rung: str) -> None:
    params = [nn.Parameter(torch.ones(5, dtype=dtype)) for dtype in (torch.bfloat16, torch.float32)]
    optimizer = optim.FusedAdam(params, master_dtype=torch.float32)
    for steps in (0, 3):
        for param in params:
            param.grad = torch.ones_like(param)
        for _ in range(steps):
            optimizer.step()
        one, other = (optimizer.state[param] for param in params)
        kept = other.get("step", torch.tensor(0.0))
        other["step"] = one.setdefault("step", torch.tensor(0.0))
        with pytest.raises(
            ValueError,
            match=r"state\['step'\] of params\[1\] is the same tensor as that of params\[0",
        ):
            optimizer.step()
        other["step"] = kept
        optimizer.step()


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_a_counter_that_is_part_of_a_moment(cls: Any, rung: str) -> None:
    key = next(iter(cls.extra_keys or cls.states))
    optimizer = trained(cls)
    state = optimizer.state[last(optimizer)]
    kept, state["step"] = state["step"], state[key].view(-1)[:1]
    assert_refused(optimizer, "shares memory with")
    state["step"] = kept
    assert_steps(optimizer)


@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 0), (3, 0, 2), (2, 3, 0, 4)])
@pytest.mark.parametrize("cls", ALL)
def test_empty_parameters_stop_no_step(cls, shape):
    empty, other = (torch.nn.Parameter(torch.ones(size)) for size in (shape, (3,)))
    empty.grad, other.grad = torch.ones(shape), torch.ones(3)
    optimizer = cls([empty, other], lr=0.1)
    for _ in range(2):
        optimizer.step()
    assert bool((other != 1).all())


@pytest.mark.parametrize("cls", ALL)
def test_text_is_no_switch(cls):
    param = torch.nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    with pytest.raises(TypeError, match="maximize is 'no'; expected True or False"):
        cls([param], maximize="no")
    optimizer = cls([param])
    optimizer.param_groups[0]["maximize"] = "no"
    with pytest.raises(TypeError, match="maximize is 'no'"):
        optimizer.step()
    assert bool((param == 1).all())
