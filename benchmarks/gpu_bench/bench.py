"""What every check and measure works with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from accel.base import Accelerator
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.kernel import Kernel, kernel_for
from accel.ops.optimizers.reference.adagrad import ADAGRAD
from accel.ops.optimizers.reference.adam import ADAM
from accel.ops.optimizers.reference.adam8bit import ADAM8BIT
from accel.ops.optimizers.reference.lamb import LAMB
from accel.ops.optimizers.reference.lion import LION

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
FAMILIES: dict[str, Family] = {
    "FusedAdam": ADAM,
    "FusedLion": LION,
    "FusedAdagrad": ADAGRAD,
    "FusedLamb": LAMB,
    "Adam8bit": ADAM8BIT,
}


@dataclass(frozen=True)
class Bench:
    """A device and its kernels.

    Attributes:
        accelerator: the strategy.
        device: the current one.
        small: whether sizes are those of a rehearsal.
        rung: which kernels `kernel` returns.
    """

    accelerator: Accelerator
    device: torch.device
    small: bool
    rung: Literal["native", "portable"] = "native"

    def on(self, rung: Literal["native", "portable"]) -> Bench:
        """Return the same with other kernels."""
        return replace(self, rung=rung)

    def kernel(self, name: str = "FusedAdam") -> Kernel:
        """Return an op's kernel on the device; a native one is built where it must be."""
        if self.rung == "portable":
            from accel.ops.optimizers.triton import Portable

            return kernel_for(FAMILIES[name], Portable(), self.accelerator.name)
        found: Kernel = self.accelerator.create_op_builder(f"{name}Builder").jit_load().kernel
        return found

    def reference(self, name: str = "FusedAdam") -> Kernel:
        """Return an op's reference on the device."""
        return kernel_for(FAMILIES[name], None, self.accelerator.name)


def expect(truth: bool, message: str) -> None:
    """Raise `AssertionError` with the message unless `truth`."""
    if not truth:
        raise AssertionError(message)
