"""What is deterministic on a device, and what says that it is not."""

from test_simulated import SIMULATED, Process, process, pytest_on, pytestmark, simulator

__all__ = ["process", "pytestmark", "simulator"]


def test_on_a_device(process: Process) -> None:
    process(*pytest_on(SIMULATED / "check_faults_order.py"))
