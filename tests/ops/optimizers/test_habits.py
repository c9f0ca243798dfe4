"""A fuzz of what users do to an optimizer between two steps: see `habit_machine`.

It runs in a process of its own, so that a crash is a failure with the example that crashed.
"""

from __future__ import annotations

import itertools
import os
import random as randomness
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from habit_runs import MACHINE, run_machine
from habits import random
from mirror import step_as_fresh
from torch import nn

from accel import optim


@pytest.mark.timeout(900)  # What it finds takes minutes to be made small.
def test_habits(tmp_path: Path) -> None:
    run_machine(tmp_path, "--examples", "100")


@pytest.mark.soak
def test_many_habits(tmp_path: Path) -> None:
    run_machine(tmp_path, "--examples", "2000", "--seed", str(secrets.randbelow(2**32)))


@pytest.mark.parametrize("cls", [optim.FusedAdam, optim.Adam8bit, optim.FusedLion])
@pytest.mark.parametrize("wandering", ["data", "exp_avg"])
def test_memory_that_comes_back(cls: Any, wandering: str) -> None:
    """Found by the machine: an address that was known, was given up, and is given again."""
    param = nn.Parameter(random((4, 4), 9))
    optimizer = cls([param], lr=0.1)
    param.grad = random((4, 4), 8)
    optimizer.step()
    moving = param if wandering == "data" else optimizer.state[param][wandering]
    pool = [moving.data, *(moving.data.clone() for _ in range(2))]
    choose = randomness.Random(0)
    pairs = [*itertools.permutations(range(len(pool)), 2)]
    for _ in range(60):
        one, other = choose.choice(pairs)
        param.grad = None
        moving.data = pool[one]
        # Codes are no gradients, but their memory may become that of gradients.
        param.grad = random((4, 4), 7)
        if pool[other].dtype == torch.float32:
            param.grad = pool[other]
        for _ in range(choose.choice((1, 3))):
            assert step_as_fresh(optimizer) is None


@pytest.mark.parametrize("rung", ["native", "reference"])
@pytest.mark.parametrize("of", ["data", "grad", "exp_avg"])
def test_memory_that_is_gone_of_a_view(of: str, rung: str) -> None:
    """Found by the machine: an offset into no memory is no address, and is not 0 either."""
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", f"{GONE}\ngone({of!r})"],
        env={**os.environ, "ACCEL_OPS": rung, "PYTHONPATH": str(MACHINE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


GONE = """
import torch
from accel import optim
from habit_runs import run_machine
from habits import random
from mirror import outcome, step_as_fresh

def gone(of):
    for cls in (optim.FusedAdam, optim.Adam8bit, optim.FusedLamb):
        param = torch.nn.Parameter(random((8, 4), 0)[4:])
        optimizer = cls([param], lr=0.1)
        for seed in range(4):
            param.grad = random((8, 4), seed)[4:]
            assert step_as_fresh(optimizer) is None
            state = optimizer.state[param]
            state["exp_avg"] = torch.stack([state["exp_avg"]] * 2)[1]
        storage = {"data": param, "grad": param.grad, **state}[of].untyped_storage()
        kept = storage.clone()
        storage.resize_(0)
        error = outcome(optimizer.step)
        storage.resize_(kept.nbytes())
        storage.copy_(kept)
        assert isinstance(error, ValueError), error
        assert step_as_fresh(optimizer) is None
"""
