"""Tables of portable kernels, on the simulated device."""

from __future__ import annotations

from test_simulated import SIMULATED, Process, process, pytest_on, pytestmark, simulator

__all__ = ["process", "pytestmark", "simulator"]


def test_tables(process: Process) -> None:
    process(*pytest_on(SIMULATED / "check_faults_portable.py"))
