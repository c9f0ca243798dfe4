"""`FusedLamb`: LAMB, with norms over whole tensors wherever their parts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import Hyper
from accel.ops.optimizers.reference.lamb import (
    LAMB,
    LAMB_APPLY,
    LAMB_BIAS_CORRECTION,
    LAMB_EPS_INSIDE,
    LAMB_MAXIMIZE,
    LAMB_MOMENTS,
    PHASES,
    LambHyper,
)
from accel.optim.base import KernelOptimizer
from accel.optim.options import betas, rate, refuse, switch, torch_options
from accel.optim.part import Part
from accel.optim.policy import policy_of
from accel.optim.shards import sharding_groups
from accel.optim.step_cache import PreparedGroup

Group = dict[str, Any]


class LastRatios:
    """The ratios of the last step: a compiler keeps attributes of this object, not an optimizer's.

    Attributes:
        coeffs: for each kernel in turn, the ratios of the tensors that it stepped.
    """

    def __init__(self) -> None:
        self.coeffs: list[Sequence[Tensor]] = []


class FusedLamb(KernelOptimizer):
    """LAMB (You et al. 2020) in one call for each group, with DeepSpeed's arguments.

    Native kernels, Triton kernels and the reference each sum a tensor's norms in a different order,
    so the ratio, and with it a parameter, may differ between them by a rounding. Native kernels
    on devices other than the CPU sum in no fixed order, so two runs may differ by a rounding, too.
    Under ``torch.use_deterministic_algorithms(True)`` such a step raises `RuntimeError`, or warns,
    as torch's own operations do. Triton kernels and the reference sum in a fixed order.

    Args:
        params: parameters or groups, as every torch optimizer takes.
        lr: learning rate; a tensor of one element is read on its device, without a wait.
        bias_correction: whether to correct the moments for their start at zero.
        betas: decay rates of the moments, each in [0, 1).
        eps: added to the root of the second moment.
        eps_inside_sqrt: add `eps` under the root instead.
        weight_decay: coefficient of the decay, part of the update.
        max_grad_norm: the largest allowed norm of a group's gradients; a step scales larger ones
            down. 0: no clipping.
        max_coeff: upper bound of the ratio of the norms.
        min_coeff: lower bound of the ratio of the norms, from 0 on.
        amsgrad: must be false.
        maximize: go up instead of down.
        foreach, fused, capturable, differentiable: as in `FusedAdam`.
        state_dtype, master_dtype, rounding, seed: as in `FusedAdam`.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, named.
        Unsupported: ``amsgrad=True`` or ``differentiable=True``.
    """

    builder: ClassVar[str] = "FusedLambBuilder"
    family: ClassVar[Family | None] = LAMB
    states: ClassVar[Mapping[str, str]] = {"exp_avg": "exp_avgs", "exp_avg_sq": "exp_avg_sqs"}
    clips_groups: ClassVar[bool] = True
    needs_whole: ClassVar[str] = (
        "it needs the norms of whole parameters, but gets shards of flat ones. Shard the model "
        "with torch.distributed.fsdp.fully_shard"
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        eps_inside_sqrt: bool = False,
        weight_decay: float = 0.0,
        max_grad_norm: float = 0.0,
        max_coeff: float = 10.0,
        min_coeff: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        state_dtype: torch.dtype | str | None = None,
        master_dtype: torch.dtype | str | None = None,
        rounding: str = "nearest",
        seed: int | None = None,
    ) -> None:
        refuse("LAMB", amsgrad=amsgrad)
        defaults: Group = {
            "lr": lr,
            "bias_correction": switch("bias_correction", bias_correction),
            "betas": betas,
            "eps": eps,
            "eps_inside_sqrt": switch("eps_inside_sqrt", eps_inside_sqrt),
            "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm,
            "max_coeff": max_coeff,
            "min_coeff": min_coeff,
            "maximize": switch("maximize", maximize),
            **torch_options(foreach, capturable, differentiable, fused),
        }
        policy = policy_of(state_dtype, master_dtype, rounding, seed)
        self._last = LastRatios()
        super().__init__(params, defaults, policy)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded state, and the attributes that are derived from it."""
        self._last = LastRatios()
        super().__setstate__(state)

    def hyper(self, group: Group) -> LambHyper:
        """Return the numbers of a group's next step, checked; raises naming the argument."""
        lr, lr_tensor = rate(group["lr"])
        beta1, beta2 = betas(group["betas"])
        lowest = checks.check_not_negative("min_coeff", group["min_coeff"])
        checks.check_not_negative("max_grad_norm", group["max_grad_norm"])
        return LambHyper(
            lr=lr,
            lr_tensor=lr_tensor,
            beta1=beta1,
            beta2=beta2,
            eps=checks.check_not_negative("eps", group["eps"]),
            weight_decay=checks.check_not_negative("weight_decay", group["weight_decay"]),
            min_coeff=lowest,
            max_coeff=checks.check_number(
                "max_coeff", group["max_coeff"], lambda x: x >= lowest, "min_coeff or more"
            ),
            flags=PHASES
            + LAMB_BIAS_CORRECTION * switch("bias_correction", group["bias_correction"])
            + LAMB_EPS_INSIDE * switch("eps_inside_sqrt", group["eps_inside_sqrt"])
            + LAMB_MAXIMIZE * switch("maximize", group["maximize"]),
        )

    def scratch(self, params: Sequence[Tensor]) -> dict[str, Sequence[Tensor]]:
        """Return memory for each tensor's norms and ratio."""
        if not params:
            return {"norms": [], "coeffs": []}
        device = params[0].device
        norms = torch.zeros(len(params), 2, dtype=torch.float64, device=device)
        coeffs = torch.ones(len(params), dtype=torch.float32, device=device)
        return {"norms": norms.unbind(), "coeffs": coeffs.unbind()}

    def adjust(self, group: Group, prepared: PreparedGroup, hyper: Hyper) -> None:
        """Put the clipping of a group's gradients to `max_grad_norm` into the gradient scale."""
        self._last.coeffs = []
        if not group["max_grad_norm"] or not prepared.parts:
            return
        grads = [param.grad for param in group["params"] if param.grad is not None]
        doubles = any(grad.dtype == torch.float64 for grad in grads)
        dtype = torch.float64 if doubles else torch.float32
        norm = torch.nn.utils.get_total_norm([_for_total(grad, dtype) for grad in grads])
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        scale = torch.ones_like(norm) if hyper.grad_scale is None else hyper.grad_scale.to(norm)
        excess = (norm / scale + 1e-6) / group["max_grad_norm"]
        hyper.grad_scale = scale * excess.clamp(min=1.0)
        hyper.clipped = True

    def run(self, prepared: PreparedGroup, hyper: Hyper) -> None:
        """Step a prepared group; the norms of distributed tensors are summed between phases."""
        coeffs = [part.scratch["coeffs"] for part in prepared.parts]
        self._last.coeffs = [*self._last.coeffs, *coeffs]
        if not prepared.sharded:
            prepared.step(hyper)
            return
        prepared.step(replace(hyper, flags=hyper.flags & ~LAMB_APPLY))
        for part in prepared.parts:
            _sum_norms(part)
        prepared.step(replace(hyper, flags=hyper.flags & ~LAMB_MOMENTS))

    def get_lamb_coeffs(self) -> list[float]:
        """Return the ratios of the last step's tensors, group by group; waits for the device."""
        return [float(coeff) for coeffs in self._last.coeffs for coeff in coeffs]


def _for_total(grad: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a gradient, or if its type is narrower than `dtype`, its norm in `dtype`.

    A 16-bit norm would have three digits, and in float16 a maximum of 65504.
    """
    if grad.dtype.itemsize >= dtype.itemsize:
        return grad
    norm: Tensor = torch.linalg.vector_norm(grad, dtype=dtype)
    return norm


def _sum_norms(part: Part) -> None:
    """Add up the norms of tensors that are sharded over a dimension of a mesh, in one call each."""
    by_group: dict[Any, list[Tensor]] = {}
    for param, norms in zip(part.params, part.scratch["norms"], strict=True):
        for group in sharding_groups(param, "A parameter with placement {} cannot be stepped"):
            by_group.setdefault(group, []).append(norms)
    for group, members in by_group.items():
        together = torch.stack(members)
        torch.distributed.all_reduce(together, group=group)
        for norms, total in zip(members, together.unbind(), strict=True):
            norms.copy_(total)
