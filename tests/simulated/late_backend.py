"""A backend of the simulated device whose native optimizers run on its late streams."""

from __future__ import annotations

from pathlib import Path

import torch_sim  # noqa: F401 - gives torch the device

from accel import Accelerator
from accel.builders.base import OpBuilder
from accel.builders.convention import DECLARED, HOST, name_of, optimizers
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


globals().update(
    {
        name_of(DECLARED[op]): type(
            name_of(DECLARED[op]),
            (_LateBuilder,),
            {
                "NAME": op,
                "op": DECLARED[op],
                "artifact": f"late_{stem}",
                "optimizer": stem,
                "__module__": __name__,
            },
        )
        for op, stem in optimizers().items()
        if not op.startswith(HOST)
    }
)
