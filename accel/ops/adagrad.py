"""Adagrad's call surface: `CPUAdagrad`, for one host tensor at a time."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from torch import Tensor

from accel.ops import checks
from accel.ops.adagrad_step import ADAGRAD, AdagradHyper
from accel.ops.family import Family
from accel.ops.kernel import run_by_key
from accel.ops.lists import TensorLists
from accel.ops.optimizer_ids import OptimizerIds
from accel.ops.surface import OptimizerOp, check_step

ADAGRAD.register(run_by_key)
_log = logging.getLogger(__name__)
_ids: OptimizerIds[str] = OptimizerIds("adagrad")


class CPUAdagrad(OptimizerOp):
    """Adagrad for one host tensor at a time; optimizers are named by an integer."""

    name: ClassVar[str] = "cpu_adagrad"
    family: ClassVar[Family] = ADAGRAD
    functions: ClassVar[tuple[str, ...]] = (
        "create_adagrad",
        "adagrad_update",
        "destroy_adagrad",
    )

    def create_adagrad(
        self, optimizer_id: int, alpha: float, eps: float, weight_decay: float, should_log: bool
    ) -> int:
        """Make `optimizer_id` known in this process, anew if it was known; returns 0.

        `adagrad_update` brings the numbers itself. Raises `TypeError` or `ValueError` naming the
        argument.
        """
        _hyper(1, alpha, eps, weight_decay)
        _ids.create(optimizer_id, "adagrad")
        if should_log:
            _log.info(
                "Adagrad optimizer %d: alpha=%g, eps=%g, weight_decay=%g, %s",
                optimizer_id, alpha, eps, weight_decay, self.implementation,
            )  # fmt: skip
        return 0

    def adagrad_update(
        self,
        optimizer_id: int,
        step: int,
        lr: float,
        epsilon: float,
        weight_decay: float,
        params: Tensor,
        grads: Tensor,
        exp_avg_sq: Tensor,
    ) -> int:
        """Do one step on one tensor, in place (Duchi, Hazan and Singer 2011); returns 0.

        Args:
            optimizer_id: an id from `create_adagrad`.
            step: number of this step, from 1; without a decay of the rate it does not matter.
            lr: learning rate, from 0 on.
            epsilon: added to the root of the sum of squares, from 0 on.
            weight_decay: L2 coefficient, from 0 on.
            params: parameter, float32, bfloat16, float16 or float64, any strides.
            grads: gradient, same shape.
            exp_avg_sq: sum of squared gradients, same shape.

        Raises:
            TypeError, ValueError: an unknown or destroyed id, an argument of the wrong kind, out of
                range, or tensors that do not match or share memory, named. Nothing has been
                written.
        """
        _ids.find(optimizer_id)
        hyper = _hyper(step, lr, epsilon, weight_decay)
        lists = TensorLists({"params": [params], "grads": [grads], "sums": [exp_avg_sq]})
        self.kernel.run(lists, hyper, single=True, names={"sums": "exp_avg_sq"})
        return 0

    def destroy_adagrad(self, optimizer_id: int) -> int:
        """Forget `optimizer_id`; returns 0. Raises `ValueError` where it is not known."""
        _ids.destroy(optimizer_id)
        return 0


def _hyper(step: Any, lr: Any, epsilon: Any, weight_decay: Any) -> AdagradHyper:
    return AdagradHyper(
        step=check_step(step),
        lr=checks.check_not_negative("lr", lr),
        eps=checks.check_not_negative("epsilon", epsilon),
        weight_decay=checks.check_not_negative("weight_decay", weight_decay),
    )
