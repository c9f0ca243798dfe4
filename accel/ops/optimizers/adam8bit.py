"""`Adam8bit`: Adam with 8-bit moments. Codes and error bounds: `accel.ops.optimizers.codes8bit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.checks import check_beta, check_step
from accel.ops.optimizers.coded import CodedOp, check_codes
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam8bit import (
    ADAM8BIT,
    ADAM8BIT_ADAMW,
    ADAM8BIT_BIAS_CORRECTION,
    Adam8bitHyper,
)
from accel.ops.optimizers.surface import check_flag, check_mode, check_noop, unpack


class Adam8bit(CodedOp):
    """Adam and AdamW with moments of 8 bits, and functions that encode and decode."""

    name: ClassVar[str] = "adam8bit"
    family: ClassVar[Family] = ADAM8BIT
    functions: ClassVar[tuple[str, ...]] = ("multi_tensor_adam8bit", *CodedOp.functions)

    def multi_tensor_adam8bit(
        self,
        chunk_size: int,
        noop_flag: Tensor | None,
        tensor_lists: Sequence[Sequence[Tensor]],
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        step: int,
        mode: int,
        bias_correction: bool | int,
        weight_decay: float,
        seed: int,
    ) -> None:
        """Do one step on every tensor, in place.

        Args:
            chunk_size: elements a device block works on at a time; a hint, not used here.
            noop_flag: integer tensor of one element; if it is not 0, nothing is done. May be
                ``None``.
            tensor_lists: gradients, parameters, first moments, their scales, second moments, their
                scales: six lists of one length.
            lr: learning rate, from 0 on.
            beta1: decay rate of the first moment, in [0, 1).
            beta2: decay rate of the second moment, in [0, 1).
            epsilon: added to the root of the second moment, from 0 on.
            step: number of this step, from 1.
            mode: 0 adds ``weight_decay * p`` to the gradient (L2), 1 decays the parameter (AdamW).
            bias_correction: whether to correct the moments for their start at zero.
            weight_decay: from 0 on.
            seed: seed of the stochastic encoding, used with `step` and the tensor's index in the
                lists; use one for a whole run. Lists that are stepped separately need different
                seeds.

        Raises:
            TypeError, ValueError: an argument of the wrong kind, out of range, or tensors that do
                not match or share memory, named. Nothing has been written.
        """
        grads, params, exp_avgs, exp_avg_scales, exp_avg_sqs, exp_avg_sq_scales = unpack(
            tensor_lists, "gradients", "parameters", "exp_avg", "exp_avg_scale", "exp_avg_sq",
            "exp_avg_sq_scale",
        )  # fmt: skip
        hyper = Adam8bitHyper(
            step=check_step(step),
            lr=checks.check_not_negative("lr", lr),
            beta1=check_beta("beta1", beta1),
            beta2=check_beta("beta2", beta2),
            eps=checks.check_not_negative("epsilon", epsilon),
            weight_decay=checks.check_not_negative("weight_decay", weight_decay),
            seed=checks.check_seed(seed),
            flags=ADAM8BIT_ADAMW * check_mode(mode)
            + ADAM8BIT_BIAS_CORRECTION * check_flag("bias_correction", bias_correction),
            noop_flag=check_noop(noop_flag),
        )
        roles: dict[str, Sequence[Tensor]] = {
            "params": params,
            "grads": grads,
            "exp_avgs": exp_avgs,
            "exp_avg_sqs": exp_avg_sqs,
        }
        extras: dict[str, Sequence[Tensor]] = {
            "exp_avg_scales": exp_avg_scales,
            "exp_avg_sq_scales": exp_avg_sq_scales,
        }
        check_codes(roles, extras)
        self.kernel.run(TensorLists(roles, extras=extras), hyper)
