"""A backend of the simulated device whose native optimizers run on its late streams."""

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


class _LateBuilder(OpBuilder):
    """A kind: the CPU's kernel of `optimizer`, on the streams of the device."""

    backend = "sim"
    optimizer = ""

    def sources(self) -> list[str]:
        return [
            str(_HERE / "late_step.cpp"),
            str(csrc_dir() / f"cpu/optimizers/{self.optimizer}.cpp"),
        ]

    def include_paths(self) -> list[str]:
        return [
            str(csrc_dir() / "include"),
            str(csrc_dir() / "cpu"),
            str(_HERE / "simulator/csrc"),
        ]

    def cxx_args(self) -> list[str]:
        step = f"_{self.optimizer}_step"
        renamed = f"-Daccel{step}=accel_cpu{step}"
        return ["-O1", "-fopenmp", f"-DOPTIMIZER={self.optimizer}", renamed]

    def extra_ldflags(self) -> list[str]:
        return ["-fopenmp"]


class FusedAdamBuilder(_LateBuilder):
    NAME = "fused_adam"
    op = "accel.ops.optimizers.adam:FusedAdam"
    artifact = "late_adam"
    optimizer = "adam"


class FusedLionBuilder(_LateBuilder):
    NAME = "fused_lion"
    op = "accel.ops.optimizers.lion:FusedLion"
    artifact = "late_lion"
    optimizer = "lion"


class FusedAdagradBuilder(_LateBuilder):
    NAME = "fused_adagrad"
    op = "accel.ops.optimizers.adagrad:FusedAdagrad"
    artifact = "late_adagrad"
    optimizer = "adagrad"


class FusedLambBuilder(_LateBuilder):
    NAME = "fused_lamb"
    op = "accel.ops.optimizers.lamb:FusedLamb"
    artifact = "late_lamb"
    optimizer = "lamb"


class Adam8bitBuilder(_LateBuilder):
    NAME = "adam8bit"
    op = "accel.ops.optimizers.adam8bit:Adam8bit"
    artifact = "late_adam8bit"
    optimizer = "adam8bit"
