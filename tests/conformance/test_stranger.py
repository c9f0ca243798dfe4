"""A stranger's accelerator against the contract."""

from pathlib import Path

import stranger
from stranger import StrangerAccelerator

from accel.testing import AcceleratorConformance


class TestStranger(AcceleratorConformance):
    accelerator = StrangerAccelerator


def test_a_stranger_needs_few_lines():
    example = Path(__file__).parents[2] / "examples/third_party_backend/accel_sim/__init__.py"
    for file in (Path(stranger.__file__), example):
        assert len(file.read_text().splitlines()) <= 60, file
