"""A backend of the simulated device with a native Adam that runs on its late streams."""

from __future__ import annotations

from pathlib import Path

import torch_sim  # noqa: F401 - gives torch the device

from accel import Accelerator
from accel.builders.base import OpBuilder
from accel.jit import csrc_dir

_HERE = Path(__file__).parent


class LateAccelerator(Accelerator):
    name = "sim"
    op_builders = "late_backend"
    lacks = ("graphs",)

    def is_available(self) -> bool:
        return True


class FusedAdamBuilder(OpBuilder):
    NAME = "fused_adam"
    backend = "sim"
    op = "accel.ops.adam:FusedAdam"
    artifact = "late_adam"

    def sources(self) -> list[str]:
        return [str(_HERE / "late_adam.cpp"), str(csrc_dir() / "cpu/adam.cpp")]

    def include_paths(self) -> list[str]:
        return [
            str(csrc_dir() / "include"),
            str(csrc_dir() / "cpu"),
            str(_HERE / "simulator/csrc"),
        ]

    def cxx_args(self) -> list[str]:
        return ["-O1", "-fopenmp", "-Daccel_adam_step=accel_cpu_adam_step"]

    def extra_ldflags(self) -> list[str]:
        return ["-fopenmp"]
