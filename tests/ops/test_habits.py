"""A fuzz of what users do to an optimizer between two steps: see `habit_machine`.

It runs in a process of its own, so that a crash is a failure with the example that crashed.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

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
