"""What is deterministic on a device, and what says that it is not."""

from device_processes import INSIDE, Process, needs_torch, pytest_on

pytestmark = needs_torch


def test_on_a_device(process: Process) -> None:
    process(*pytest_on(INSIDE / "test_faults_order.py"))
