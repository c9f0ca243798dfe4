"""A backend whose import prints and sets a variable."""

import os

from accel.cpu import CPUAccelerator

print("loading the noisy backend")  # noqa: T201 - the defect
os.environ["NOISY"] = "1"


class NoisyImport(CPUAccelerator):
    pass
