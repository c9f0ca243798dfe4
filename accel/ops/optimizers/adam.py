"""Adam's call surfaces: `FusedAdam` over lists of tensors, `CPUAdam` for one host tensor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

from torch import Tensor

from accel.errors import Unsupported
from accel.ops import checks
from accel.ops.optimizers.checks import check_beta, check_step
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.ids import OptimizerIds
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam import (
    ADAM,
    ADAM_ADAMW,
    ADAM_BIAS_CORRECTION,
    ADAM_ROLLBACK,
    AdamHyper,
    check_undoable,
)
from accel.ops.optimizers.surface import OptimizerOp, check_flag, check_mode, check_noop, unpack

_log = logging.getLogger(__name__)
_SINGLE = {"exp_avgs": "exp_avg", "exp_avg_sqs": "exp_avg_sq"}


class FusedAdam(OptimizerOp):
    """Adam and AdamW over lists of tensors, in one call."""

    name: ClassVar[str] = "fused_adam"
    family: ClassVar[Family] = ADAM
    functions: ClassVar[tuple[str, ...]] = ("multi_tensor_adam",)

    def multi_tensor_adam(
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
        *args: Any,
    ) -> None:
        """Do one step on every tensor, in place (Kingma and Ba 2015; Loshchilov and Hutter 2019).

        Args:
            chunk_size: elements a device block works on at a time; a hint, not used here.
            noop_flag: integer tensor of one element; if it is not 0, nothing is done. May be
                ``None``.
            tensor_lists: gradients, parameters, first and second moments, four lists of one length;
                float32, bfloat16, float16 or float64, the moments of a tensor all of one type. Any
                strides.
            lr: learning rate, from 0 on.
            beta1: decay rate of the first moment, in [0, 1).
            beta2: decay rate of the second moment, in [0, 1).
            epsilon: added to the root of the second moment, from 0 on.
            step: number of this step, from 1.
            mode: 0 adds ``weight_decay * p`` to the gradient (L2), 1 decays the parameter (AdamW).
            bias_correction: whether to correct the moments for their start at zero.
            weight_decay: from 0 on.
            args: further arguments that some callers pass; not used.

        Raises:
            TypeError: an argument of the wrong kind, named.
            ValueError: an argument out of range, lists, shapes or devices that do not match, or
                tensors that share memory, named. Nothing has been written.
        """
        grads, params, exp_avgs, exp_avg_sqs = unpack(
            tensor_lists, "gradients", "parameters", "exp_avg", "exp_avg_sq"
        )
        hyper = _hyper(
            step,
            lr,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            bias_correction,
            adamw=check_mode(mode) == 1,
        )
        hyper.noop_flag = check_noop(noop_flag)
        self.kernel.run(_lists(params, grads, exp_avgs, exp_avg_sqs), hyper)


# Whether decay is AdamW's: an argument of `create_adam` that later calls do not repeat.
_ids: OptimizerIds[bool] = OptimizerIds("adam")


class CPUAdam(OptimizerOp):
    """Adam and AdamW for one host tensor at a time; optimizers are named by an integer."""

    name: ClassVar[str] = "cpu_adam"
    family: ClassVar[Family] = ADAM
    functions: ClassVar[tuple[str, ...]] = (
        "create_adam",
        "adam_update",
        "adam_rollback",
        "destroy_adam",
    )

    def create_adam(
        self,
        optimizer_id: int,
        alpha: float,
        betta1: float,
        betta2: float,
        eps: float,
        weight_decay: float,
        adamw_mode: bool,
        should_log: bool,
    ) -> int:
        """Register `optimizer_id` in this process, replacing an earlier one; returns 0.

        Only `adamw_mode` is kept: the numbers are passed to each `adam_update` again. Raises
        `TypeError` or `ValueError` naming the argument.
        """
        adamw = check_flag("adamw_mode", adamw_mode)
        _hyper(1, alpha, betta1, betta2, eps, weight_decay, True, adamw=adamw)
        _ids.create(optimizer_id, adamw)
        if should_log:
            _log.info(
                "Adam optimizer %d: alpha=%g, betas=(%g, %g), eps=%g, weight_decay=%g, adamw=%s, "
                "%s", optimizer_id, alpha, betta1, betta2, eps, weight_decay, bool(adamw_mode),
                self.implementation,
            )  # fmt: skip
        return 0

    def adam_update(
        self,
        optimizer_id: int,
        step: int,
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
        bias_correction: bool | int,
        params: Tensor,
        grads: Tensor,
        exp_avg: Tensor,
        exp_avg_sq: Tensor,
    ) -> int:
        """Do one step on one tensor, in place; arguments as in `FusedAdam`; returns 0.

        The tensors are float32, bfloat16, float16 or float64, as in `FusedAdam`.

        Raises `ValueError` for an id that was not created or was destroyed, and raises as
        `FusedAdam.multi_tensor_adam` does. Nothing has been written then.
        """
        adamw = _ids.find(optimizer_id)
        hyper = _hyper(step, lr, beta1, beta2, epsilon, weight_decay, bias_correction, adamw=adamw)
        self._run(params, grads, exp_avg, exp_avg_sq, hyper)
        return 0

    def adam_rollback(
        self,
        optimizer_id: int,
        step: int,
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
        bias_correction: bool | int,
        params: Tensor,
        grads: Tensor,
        exp_avg: Tensor,
        exp_avg_sq: Tensor,
    ) -> int:
        """Undo the `adam_update` of the same arguments, up to rounding; returns 0.

        Raises as `adam_update` does, and `ValueError` if `beta1` or `beta2` is 0, or if the decay
        removed the whole parameter: such a step cannot be undone.
        """
        adamw = _ids.find(optimizer_id)
        hyper = _hyper(step, lr, beta1, beta2, epsilon, weight_decay, bias_correction, adamw=adamw)
        check_undoable(hyper)
        if adamw and hyper.lr * hyper.weight_decay == 1.0:
            raise ValueError(
                "lr * weight_decay is 1; a step that discards params cannot be undone."
            )
        hyper.flags |= ADAM_ROLLBACK
        self._run(params, grads, exp_avg, exp_avg_sq, hyper)
        return 0

    def destroy_adam(self, optimizer_id: int) -> int:
        """Forget `optimizer_id`; returns 0. Raises `ValueError` if it is not known."""
        _ids.destroy(optimizer_id)
        return 0

    def _run(
        self, params: Tensor, grads: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, hyper: AdamHyper
    ) -> None:
        lists = _lists([params], [grads], [exp_avg], [exp_avg_sq])
        self.kernel.run(lists, hyper, single=True, names=_SINGLE)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("zenflow_"):
            raise Unsupported(f"{name}: zenflow is not part of accel; use DeepSpeed's own CPUAdam.")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")


def _lists(
    params: list[Tensor], grads: list[Tensor], exp_avgs: list[Tensor], exp_avg_sqs: list[Tensor]
) -> TensorLists:
    return TensorLists(
        {"params": params, "grads": grads, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs}
    )


def _hyper(
    step: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    weight_decay: Any,
    bias_correction: Any,
    *,
    adamw: bool,
) -> AdamHyper:
    return AdamHyper(
        lr=checks.check_not_negative("lr", lr),
        beta1=check_beta("beta1", beta1),
        beta2=check_beta("beta2", beta2),
        eps=checks.check_not_negative("epsilon", epsilon),
        weight_decay=checks.check_not_negative("weight_decay", weight_decay),
        step=check_step(step),
        flags=ADAM_ADAMW * adamw
        + ADAM_BIAS_CORRECTION * check_flag("bias_correction", bias_correction),
    )
