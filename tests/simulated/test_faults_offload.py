"""Offloading on the simulated device: under the user's defaults, and with many small tensors."""

from __future__ import annotations

from device_processes import INSIDE, Process, needs_torch, pytest_on

pytestmark = needs_torch


def test_defaults_change_nothing(process: Process) -> None:
    process(*pytest_on(INSIDE / "test_faults_offload.py"))


def test_transfers(process: Process) -> None:
    process(*pytest_on(INSIDE / "test_faults_transfers.py"))
