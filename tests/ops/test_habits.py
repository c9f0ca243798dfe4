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
from habits import random
from mirror import step_as_fresh
from torch import nn

from accel import optim

MACHINE = Path(__file__).with_name("habit_machine.py")


def run_machine(folder: Path, *arguments: str) -> None:
    """Run the machine; fails with what it says, and with the example in which it died."""
    journal = folder / "journal.txt"
    command = [sys.executable, str(MACHINE), *arguments]
    ran = subprocess.run(
        [*command, "--journal", str(journal)],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 0:
        return
    said = f"{' '.join(command)}\n{ran.stdout}{ran.stderr}"
    if ran.returncode < 0:
        said += f"\nIt died of signal {-ran.returncode} in the last line of\n{journal.read_text()}"
    pytest.fail(said, pytrace=False)


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
