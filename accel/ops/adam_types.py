"""What one call of Adam takes: lists of tensors and hyper-parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

STATES = ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")


@dataclass(slots=True)
class AdamTensors:
    """Lists of one length, entry i of each for tensor i.

    Attributes:
        params: parameters, updated.
        grads: gradients, never written.
        exp_avgs: first moments, updated.
        exp_avg_sqs: second moments, updated.
        max_exp_avg_sqs: largest second moments so far, updated; ``None`` without AMSGrad.
        masters: float32 copies that the parameters are rounded from; ``None`` where there are none.
        steps: float32 scalars, the steps done before, updated; ``None`` where `AdamHyper.step`
            holds for all tensors.
    """

    params: Sequence[Tensor]
    grads: Sequence[Tensor]
    exp_avgs: Sequence[Tensor]
    exp_avg_sqs: Sequence[Tensor]
    max_exp_avg_sqs: Sequence[Tensor] | None = None
    masters: Sequence[Tensor] | None = None
    steps: Sequence[Tensor] | None = None

    def roles(self) -> dict[str, Sequence[Tensor]]:
        """Return the lists of full-size tensors by name, `params` first."""
        roles = {
            "params": self.params,
            "grads": self.grads,
            "exp_avgs": self.exp_avgs,
            "exp_avg_sqs": self.exp_avg_sqs,
        }
        if self.max_exp_avg_sqs is not None:
            roles["max_exp_avg_sqs"] = self.max_exp_avg_sqs
        if self.masters is not None:
            roles["masters"] = self.masters
        return roles

    def select(self, indices: Iterable[int]) -> AdamTensors:
        """Return the same lists with only these entries."""
        chosen = tuple(indices)

        def pick(listed: Sequence[Tensor] | None) -> Sequence[Tensor] | None:
            return None if listed is None else [listed[index] for index in chosen]

        return AdamTensors(
            params=[self.params[index] for index in chosen],
            grads=[self.grads[index] for index in chosen],
            exp_avgs=[self.exp_avgs[index] for index in chosen],
            exp_avg_sqs=[self.exp_avg_sqs[index] for index in chosen],
            max_exp_avg_sqs=pick(self.max_exp_avg_sqs),
            masters=pick(self.masters),
            steps=pick(self.steps),
        )


@dataclass(slots=True)
class AdamHyper:
    """The numbers of one step, the same for all tensors of a call.

    Attributes:
        lr: learning rate; `lr_tensor`, a float32 scalar on the tensors' device, replaces it.
        beta1: decay rate of the first moment, in [0, 1).
        beta2: decay rate of the second moment, in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: L2 coefficient, or decoupled decay with ``abi.ADAM_ADAMW``.
        step: number of this step from 1; read where the tensors bring no steps.
        flags: sum of ``abi.ADAM_*``.
        rounding: ``"nearest"`` or ``"stochastic"``, of 16-bit parameters and states.
        seed: of stochastic rounding.
        grad_scale: float32 scalar that gradients are divided by, or ``None``.
        found_inf: float32 scalar; where it is not 0 nothing is done. Or ``None``.
        noop_flag: int32 scalar; where it is not 0 nothing is done. Or ``None``.
    """

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    step: int = 1
    flags: int = 0
    rounding: str = "nearest"
    seed: int = 0
    lr_tensor: Tensor | None = None
    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None
    noop_flag: Tensor | None = None
