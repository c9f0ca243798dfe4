"""Tensors without their memory, or that may not be written, are refused by name on every rung."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
import torch
from family_cases import OPTIMIZERS as ALL
from family_cases import Case
from torch import Tensor, nn

from accel import optim
from accel.ops.checks import check_no_overlap
from accel.ops.optimizers.prepared.table import Occupied, PointerTable, addresses
from accel.optim import FusedAdam

rungs = pytest.mark.parametrize("rung", ["native", "reference"])


def freed(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().resize_(0)
    return tensor


def shortened(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().resize_(tensor.untyped_storage().nbytes() // 2)
    return tensor


@rungs
@pytest.mark.parametrize("change", [freed, shortened])
def test_a_storage_that_is_too_small(case: Case, rung: str, change: Any) -> None:
    op = case.builder().load() if rung == "native" else case.reference()
    for role in ("params", "grads", *case.reference.family.states):
        lists = case.lists([(300,), (64, 4)], steps=1.0)
        before = lists.params[0].clone()
        change(lists.roles[role][1])
        with pytest.raises(ValueError, match=rf"^{role}\[1\] needs \d+ bytes of its storage"):
            op.kernel.run(lists, case.hyper())
        assert torch.equal(before, lists.params[0])
    lists = case.lists([(300,)], steps=1.0)
    assert lists.steps is not None
    freed(lists.steps[0])
    with pytest.raises(ValueError, match=r"^steps\[0\] needs 4 bytes"):
        op.kernel.run(lists, case.hyper())


@rungs
@pytest.mark.parametrize("name", ["lr_tensor", "grad_scale", "found_inf", "noop_flag"])
def test_scalars_without_memory_or_of_another_kind(case: Case, rung: str, name: str) -> None:
    op = case.builder().load() if rung == "native" else case.reference()
    for value in (freed(torch.ones(1)), torch.ones(2), torch.ones(0), torch.ones(1) * 1j):
        lists = case.lists([(30,)])
        with pytest.raises((TypeError, ValueError), match=f"^{name} "):
            op.kernel.run(lists, case.hyper(**{name: value}))


@rungs
@pytest.mark.parametrize("cls", ALL)
def test_an_optimizer_names_a_freed_tensor(
    cls: Any, rung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rung == "reference":
        monkeypatch.setenv("ACCEL_OPS", "reference")
    options: tuple[dict[str, Any], ...] = ({}, {"master_dtype": "float32"})
    for option in options:
        param = nn.Parameter(torch.ones(40, dtype=torch.bfloat16))
        optimizer = cls([param], **option)
        param.grad = torch.ones_like(param)
        freed(param.detach())
        with pytest.raises(ValueError, match=r"params\[0\] needs 80 bytes of its storage"):
            optimizer.step()
        assert not optimizer.state


@rungs
def test_a_state_that_was_freed_between_steps(rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if rung == "reference":
        monkeypatch.setenv("ACCEL_OPS", "reference")
    param = nn.Parameter(torch.ones(40))
    optimizer = FusedAdam([param])
    for _ in range(3):
        param.grad = torch.ones_like(param)
        optimizer.step()
    optimizer.state[param]["exp_avg"] = freed(torch.zeros(40))
    with pytest.raises(ValueError, match=r"\['exp_avg'\] needs 160 bytes"):
        optimizer.step()


@rungs
def test_tensors_of_inference_mode(case: Case, rung: str) -> None:
    op = case.builder().load() if rung == "native" else case.reference()
    for role in ("params", *case.reference.family.states):
        lists = case.lists([(300,)], steps=1.0)
        with torch.inference_mode():
            lists.roles[role] = [lists.roles[role][0].clone()]
        before = lists.params[0].clone()
        with pytest.raises(ValueError, match=rf"^{role}\[0\] was made in inference mode"):
            op.kernel.run(lists, case.hyper())
        assert torch.equal(before, lists.params[0])
        with torch.inference_mode():
            op.kernel.run(lists, case.hyper())
        assert not torch.equal(before, lists.params[0])


@pytest.mark.parametrize("cls", ALL)
def test_parameters_of_inference_mode(cls: Any) -> None:
    with torch.inference_mode():
        param = nn.Parameter(torch.ones(4), requires_grad=False)
    param.grad = torch.ones(4)
    optimizer = cls([param])
    with pytest.raises(ValueError, match=r"params\[0\] was made in inference mode"):
        optimizer.step()
    assert not optimizer.state and torch.equal(param, torch.ones(4))


HIGH = 0xFF << 56


@pytest.fixture
def high_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory in the upper half of all addresses, as some GPUs have it."""
    real = Tensor.data_ptr
    monkeypatch.setattr(Tensor, "data_ptr", lambda tensor: real(tensor) | HIGH)


@pytest.mark.usefixtures("high_memory")
def test_memory_in_the_upper_half_of_addresses() -> None:
    memory = torch.zeros(100)
    parts = [memory[10 * at : 10 * at + 10] for at in range(10)]
    table = PointerTable({"params": parts})
    found = [address % 2**64 for address in table.pointers["params"]]
    assert found == [part.data_ptr() for part in parts]
    occupied = Occupied([parts[2], parts[3], parts[7]])
    for at, part in enumerate(parts):
        assert occupied.meets(addresses([part]), array("q", [40])) == (at in (2, 3, 7))
    roles = {"params": parts}
    check_no_overlap(roles, {"grads": [torch.zeros(10)]})
    for shared in (memory[5:6], memory[95:100]):
        with pytest.raises(ValueError, match="memory"):
            check_no_overlap(roles, {"grads": [shared]})


def test_a_parameter_given_twice_is_told_so_whatever_the_addresses():
    told = set()
    kept = []
    for _ in range(12):
        param = torch.nn.Parameter(torch.ones(40))
        param.grad = torch.ones(40)
        kept += [param, torch.ones(20)]
        optimizer = optim.FusedAdam([param])
        optimizer.param_groups[0]["params"] = [param, param]
        with pytest.raises(ValueError, match="shares memory") as caught:
            optimizer.step()
        told.add(str(caught.value))
    assert len(told) == 1
    assert "params[1] shares memory with params[0]" in told.pop()


def test_a_setting_of_the_environment_is_no_groups_fault(monkeypatch):
    monkeypatch.setenv("ACCEL_OPS", "fast")
    param = torch.nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    with pytest.raises(ValueError, match=r"^ACCEL_OPS='fast'"):
        optim.FusedAdam([param]).step()
