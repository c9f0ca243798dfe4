"""Adagrad's call surfaces: `FusedAdagrad` over lists, `CPUAdagrad` for one host tensor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from accel.errors import Unsupported
from accel.ops import checks
from accel.ops.optimizers.checks import check_step
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.ids import OptimizerIds
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adagrad import ADAGRAD, AdagradHyper
from accel.ops.optimizers.surface import OptimizerOp, check_mode, check_noop, unpack

_log = logging.getLogger(__name__)
_ids: OptimizerIds[str] = OptimizerIds("adagrad")


class FusedAdagrad(OptimizerOp):
    """Adagrad over lists of tensors, in one call; Apex's function and argument order."""

    name: ClassVar[str] = "fused_adagrad"
    family: ClassVar[Family] = ADAGRAD
    functions: ClassVar[tuple[str, ...]] = ("multi_tensor_adagrad",)

    def multi_tensor_adagrad(
        self,
        chunk_size: int,
        noop_flag: Tensor | None,
        tensor_lists: Sequence[Sequence[Tensor]],
        lr: float,
        epsilon: float,
        mode: int,
        weight_decay: float,
        *args: Any,
    ) -> None:
        """Do one step on every tensor, in place (Duchi, Hazan and Singer 2011).

        Args:
            chunk_size: elements a device block works on at a time; a hint, not used here.
            noop_flag: integer tensor of one element; if it is not 0, nothing is done. May be
                ``None``.
            tensor_lists: gradients, parameters and sums of squared gradients, three lists of one
                length; float32, bfloat16, float16 or float64. Any strides.
            lr: learning rate, from 0 on.
            epsilon: added to the root of the sum of squares, from 0 on.
            mode: 0: `weight_decay` is L2.
            weight_decay: from 0 on.
            args: further arguments that some callers pass; not used.

        Raises:
            TypeError, ValueError: an argument of the wrong kind, out of range, or tensors that do
                not match or share memory, named. Nothing has been written.
            Unsupported: mode 1, which decays the parameter itself.
        """
        grads, params, sums = unpack(tensor_lists, "gradients", "parameters", "sum")
        if check_mode(mode, "0 (L2)") == 1:
            raise Unsupported("mode=1, decoupled decay, is not supported by Adagrad here; use 0.")
        hyper = _hyper(1, lr, epsilon, weight_decay)
        hyper.noop_flag = check_noop(noop_flag)
        self.kernel.run(TensorLists({"params": params, "grads": grads, "sums": sums}), hyper)


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
        """Register `optimizer_id` in this process, replacing an earlier one; returns 0.

        The numbers are passed to each `adagrad_update` again. Raises `TypeError` or `ValueError`
        naming the argument.
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
            step: number of this step, from 1; not used, since the rate does not decay.
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
        """Forget `optimizer_id`; returns 0. Raises `ValueError` if it is not known."""
        _ids.destroy(optimizer_id)
        return 0


def _hyper(step: Any, lr: Any, epsilon: Any, weight_decay: Any) -> AdagradHyper:
    return AdagradHyper(
        step=check_step(step),
        lr=checks.check_not_negative("lr", lr),
        eps=checks.check_not_negative("epsilon", epsilon),
        weight_decay=checks.check_not_negative("weight_decay", weight_decay),
    )
