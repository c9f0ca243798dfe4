"""Lion's call surfaces: `FusedLion` over lists of tensors, `CPULion` for one host tensor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.checks import check_beta, check_step
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.ids import OptimizerIds
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.lion import LION, LionHyper
from accel.ops.optimizers.surface import OptimizerOp, check_noop, unpack

_log = logging.getLogger(__name__)
_ids: OptimizerIds[str] = OptimizerIds("lion")


class FusedLion(OptimizerOp):
    """Lion over lists of tensors, in one call."""

    name: ClassVar[str] = "fused_lion"
    family: ClassVar[Family] = LION
    functions: ClassVar[tuple[str, ...]] = ("multi_tensor_lion",)

    def multi_tensor_lion(
        self,
        chunk_size: int,
        noop_flag: Tensor | None,
        tensor_lists: Sequence[Sequence[Tensor]],
        lr: float,
        beta1: float,
        beta2: float,
        step: int,
        weight_decay: float,
        *args: Any,
    ) -> None:
        """Do one step on every tensor, in place (Chen et al. 2023); ``sign(0)`` is 0.

        Args:
            chunk_size: elements a device block works on at a time; a hint, not used here.
            noop_flag: integer tensor of one element; if it is not 0, nothing is done. May be
                ``None``.
            tensor_lists: gradients, parameters and moments, three lists of one length; float32,
                bfloat16, float16 or float64. Any strides.
            lr: learning rate, from 0 on.
            beta1: weight of the moment in the update, in [0, 1).
            beta2: decay rate of the moment, in [0, 1).
            step: number of this step, from 1; Lion does not depend on it.
            weight_decay: coefficient of the decoupled decay, from 0 on.
            args: further arguments that some callers pass; not used.

        Raises:
            TypeError, ValueError: an argument of the wrong kind, out of range, or tensors that do
                not match or share memory, named. Nothing has been written.
        """
        grads, params, exp_avgs = unpack(tensor_lists, "gradients", "parameters", "exp_avg")
        hyper = _hyper(step, lr, beta1, beta2, weight_decay)
        hyper.noop_flag = check_noop(noop_flag)
        lists = TensorLists({"params": params, "grads": grads, "exp_avgs": exp_avgs})
        self.kernel.run(lists, hyper)


class CPULion(OptimizerOp):
    """Lion for one host tensor at a time; optimizers are named by an integer."""

    name: ClassVar[str] = "cpu_lion"
    family: ClassVar[Family] = LION
    functions: ClassVar[tuple[str, ...]] = ("create_lion", "lion_update", "destroy_lion")

    def create_lion(
        self,
        optimizer_id: int,
        alpha: float,
        betta1: float,
        betta2: float,
        weight_decay: float,
        should_log: bool,
    ) -> int:
        """Register `optimizer_id` in this process, replacing an earlier one; returns 0.

        The numbers are passed to each `lion_update` again. Raises `TypeError` or `ValueError`
        naming the argument.
        """
        _hyper(1, alpha, betta1, betta2, weight_decay)
        _ids.create(optimizer_id, "lion")
        if should_log:
            _log.info(
                "Lion optimizer %d: alpha=%g, betas=(%g, %g), weight_decay=%g, %s",
                optimizer_id, alpha, betta1, betta2, weight_decay, self.implementation,
            )  # fmt: skip
        return 0

    def lion_update(
        self,
        optimizer_id: int,
        step: int,
        lr: float,
        beta1: float,
        beta2: float,
        weight_decay: float,
        params: Tensor,
        grads: Tensor,
        exp_avg: Tensor,
    ) -> int:
        """Do one step on one tensor, in place; arguments as in `FusedLion`; returns 0.

        The tensors are float32, bfloat16, float16 or float64, as in `FusedLion`.

        Raises `ValueError` for an id that was not created or was destroyed, and raises as
        `FusedLion.multi_tensor_lion` does. Nothing has been written then.
        """
        _ids.find(optimizer_id)
        hyper = _hyper(step, lr, beta1, beta2, weight_decay)
        lists = TensorLists({"params": [params], "grads": [grads], "exp_avgs": [exp_avg]})
        self.kernel.run(lists, hyper, single=True, names={"exp_avgs": "exp_avg"})
        return 0

    def destroy_lion(self, optimizer_id: int) -> int:
        """Forget `optimizer_id`; returns 0. Raises `ValueError` if it is not known."""
        _ids.destroy(optimizer_id)
        return 0


def _hyper(step: Any, lr: Any, beta1: Any, beta2: Any, weight_decay: Any) -> LionHyper:
    return LionHyper(
        step=check_step(step),
        lr=checks.check_not_negative("lr", lr),
        beta1=check_beta("beta1", beta1),
        beta2=check_beta("beta2", beta2),
        weight_decay=checks.check_not_negative("weight_decay", weight_decay),
    )
