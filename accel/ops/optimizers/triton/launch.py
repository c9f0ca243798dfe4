"""`Launcher`: one call of an optimizer op as Triton kernel launches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
from torch import Tensor

from accel.errors import Unsupported
from accel.ops.native import current_device
from accel.ops.optimizers.abi import ROUNDING
from accel.ops.optimizers.random_keys import step_seed
from accel.ops.optimizers.triton.optimizer import count_kernel
from accel.ops.optimizers.triton.table import BLOCK, device_table

_TENSORS = 128
_PARTIALS = 1024


class Launcher:
    """One call of an op: its table on the device, and the launches over it.

    Args:
        args: the op's argument struct.
        device: the tensors' device: one that Triton compiles for, or the CPU in its interpreter.
        states: the struct's pointer arrays of states, in the order in which kernels number them.
        extras: its pointer arrays of tensors of other sizes, which are numbered after the states.
        maximize: whether gradients are negated.
    """

    def __init__(
        self,
        args: Any,
        device: torch.device,
        states: tuple[str, ...],
        extras: tuple[str, ...] = (),
        *,
        maximize: bool,
    ) -> None:
        if args.first_elements:
            raise Unsupported("Triton kernels step only whole tensors, not parts of them.")
        self.args = args
        self.grad_factor = -1.0 if maximize else 1.0
        self.table = device_table(args, states, device, extras)
        self.width = self.table.rows.shape[1]
        self._device = device

    def step(
        self,
        kernel: Any,
        numbers: Mapping[str, float],
        constants: Mapping[str, bool],
        partials: Tensor | None = None,
    ) -> None:
        """Launch a kernel over every element of every tensor.

        Args:
            kernel: takes the table's rows and owners, `numbers`, and as constants `constants` and
                the constants of all ops.
            numbers: floats of this op; `grad_factor` and `seed` are added.
            constants: facts of this call that the kernel is compiled for.
            partials: two float64 for each program.
        """
        args = self.args
        seed = args.seed if args.steps else step_seed(args.seed, args.step)
        seed = seed - (1 << 64) if seed >> 63 else seed
        with current_device(self._device):
            for owners, aligned in self.table.launches:
                sums = {}
                if partials is not None:
                    sums, partials = {"partials": partials}, partials[len(owners) :]
                kernel[(len(owners),)](
                    self.table.rows, owners, **sums, **numbers, seed=seed,
                    grad_factor=self.grad_factor, **constants, PARAM=args.param_dtype,
                    GRAD=args.grad_dtype, STATE=args.state_dtype, MASTER=bool(args.masters),
                    STOCHASTIC=args.rounding == ROUNDING["stochastic"], ALIGNED=aligned,
                    WIDTH=self.width, SIZE=BLOCK, num_warps=4, enable_fp_fusion=False,
                )  # fmt: skip

    def each(self, kernel: Any, **numbers: float | bool) -> None:
        """Launch a kernel over the tensors, including empty ones."""
        programs = triton.cdiv(self.args.count, _TENSORS)
        with current_device(self._device):
            kernel[(programs,)](
                self.table.rows, self.args.count, **numbers, WIDTH=self.width, SIZE=_TENSORS,
                enable_fp_fusion=False,
            )  # fmt: skip

    def scalars(self, kernel: Any, numbers: Mapping[str, float], **constants: int) -> None:
        """Launch a kernel that stores scalars for `step`.

        Args:
            kernel: takes the table's rows, the number of tensors, `numbers`, and as constants
                `STEPS` and `constants`.
            numbers: floats of this op; `grad_factor` and `lr` are added.
            constants: facts of this call that the kernel is compiled for.
        """
        given = {"lr": self.args.lr, "grad_factor": self.grad_factor}
        self.each(kernel, **numbers, **given, STEPS=bool(self.args.steps), **constants)

    def sum(self, kernel: Any, partials: Tensor) -> None:
        """Launch a kernel that adds up each tensor's `partials`, always in the same order."""
        with current_device(self._device):
            kernel[(self.args.count,)](
                self.table.rows, partials, WIDTH=self.width, BLOCK=BLOCK, SIZE=_PARTIALS
            )

    def partials(self) -> Tensor:
        """Return new memory for two float64 of each program."""
        programs = sum(len(owners) for owners, _ in self.table.launches)
        return torch.empty(programs, 2, dtype=torch.float64, device=self._device)

    def count(self, by: float = 1.0) -> None:
        """Add `by` to every tensor's step counter, if there are counters."""
        if self.args.steps:
            self.each(count_kernel, by=by)
