"""CUDA kernels built for the host draw the random bits that belong to a tensor's number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from device_checks import Step, Stepper
from device_random import RandomChecks, half_lists
from family_cases import CASES, FAMILIES, tensors_of
from kernels_on_host import library

from accel.ops.optimizers.kernel import kernel_for
from accel.ops.optimizers.lists import TensorLists


@pytest.fixture(scope="module")
def stepper() -> Stepper:
    """Steps by the CUDA kernels as plain C++."""

    def choose(name: str) -> Step:
        kernel = kernel_for(FAMILIES[name], library(name, host=True), "cpu")

        def step(tensors: TensorLists, hyper: Any) -> None:
            kernel.run(tensors, hyper)

        return step

    return choose


class TestOnTheHost(RandomChecks):
    """The kernels' index and element code."""


@pytest.mark.parametrize("name", [name for name in CASES if name != "lamb"])
def test_many_launches_have_the_cpus_bits(stepper: Stepper, name: str) -> None:
    """Numbers go with tensors into every launch's table."""
    case = CASES[name]
    hyper = case.hyper(rounding="stochastic", seed=4)
    numbers = [7 * place % 4001 + 2**31 for place in range(1000)]
    found = []
    for step in (stepper(name), case.builder().load().kernel.run):
        lists = half_lists(case).select([0, 4, 2, 1] * 250)
        roles = {role: [one.clone() for one in listed] for role, listed in lists.roles.items()}
        extras = {role: [one.clone() for one in listed] for role, listed in lists.extras.items()}
        given = TensorLists(roles, None, extras, numbers)
        step(given, hyper)
        found.append(tensors_of(given))
    assert all(map(torch.equal, *found))
