"""Offloading on the simulated device: under the user's defaults, and with many small tensors."""

from __future__ import annotations

from test_simulated import SIMULATED, Process, process, pytest_on, pytestmark, simulator

__all__ = ["process", "pytestmark", "simulator"]


def test_defaults_change_nothing(process: Process) -> None:
    process(*pytest_on(SIMULATED / "check_faults_offload.py"))


def test_transfers(process: Process) -> None:
    process(*pytest_on(SIMULATED / "check_faults_transfers.py"))
