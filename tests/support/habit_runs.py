"""Runs of the habit machine in a process of its own."""

from __future__ import annotations

import os
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
