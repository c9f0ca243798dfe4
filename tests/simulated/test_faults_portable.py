"""Tables of portable kernels, on the simulated device."""

from __future__ import annotations

from device_processes import INSIDE, Process, needs_torch, pytest_on

pytestmark = needs_torch


def test_tables(process: Process) -> None:
    process(*pytest_on(INSIDE / "test_faults_portable.py"))
