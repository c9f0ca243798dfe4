"""`Lion8bit`: Lion with an 8-bit moment. Codes: `accel.ops.optimizers.codes8bit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.checks import check_beta, check_step
from accel.ops.optimizers.coded import CodedOp, check_codes
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.lion8bit import LION8BIT, Lion8bitHyper
from accel.ops.optimizers.surface import check_noop, unpack


class Lion8bit(CodedOp):
    """Lion with a moment of 8 bits, and functions that encode and decode."""

    name: ClassVar[str] = "lion8bit"
    family: ClassVar[Family] = LION8BIT
    functions: ClassVar[tuple[str, ...]] = ("multi_tensor_lion8bit", *CodedOp.functions)

    def multi_tensor_lion8bit(
        self,
        chunk_size: int,
        noop_flag: Tensor | None,
        tensor_lists: Sequence[Sequence[Tensor]],
        lr: float,
        beta1: float,
        beta2: float,
        step: int,
        weight_decay: float,
        seed: int,
    ) -> None:
        """Do one step on every tensor, in place (Chen et al. 2023); ``sign(0)`` is 0.

        Args:
            chunk_size: elements a device block works on at a time; a hint, not used here.
            noop_flag: integer tensor of one element; if it is not 0, nothing is done. May be
                ``None``.
            tensor_lists: gradients, parameters, moments, their scales: four lists of one length.
            lr: learning rate, from 0 on.
            beta1: weight of the moment in the update, in [0, 1).
            beta2: decay rate of the moment, in [0, 1).
            step: number of this step, from 1; only the encoding depends on it.
            weight_decay: coefficient of the decoupled decay, from 0 on.
            seed: seed of the stochastic encoding, used with `step` and the tensor's index in the
                lists; use one for a whole run. Lists that are stepped separately need different
                seeds.

        Raises:
            TypeError, ValueError: an argument of the wrong kind, out of range, or tensors that do
                not match or share memory, named. Nothing has been written.
        """
        names = ("gradients", "parameters", "exp_avg", "exp_avg_scale")
        grads, params, exp_avgs, scales = unpack(tensor_lists, *names)
        hyper = Lion8bitHyper(
            step=check_step(step),
            lr=checks.check_not_negative("lr", lr),
            beta1=check_beta("beta1", beta1),
            beta2=check_beta("beta2", beta2),
            weight_decay=checks.check_not_negative("weight_decay", weight_decay),
            seed=checks.check_seed(seed),
            noop_flag=check_noop(noop_flag),
        )
        roles: dict[str, Sequence[Tensor]] = {
            "params": params,
            "grads": grads,
            "exp_avgs": exp_avgs,
        }
        extras: dict[str, Sequence[Tensor]] = {"exp_avg_scales": scales}
        check_codes(roles, extras)
        self.kernel.run(TensorLists(roles, extras=extras), hyper)
