"""Adam as a family of kernels, and its op in the dispatcher: ``accel::adam_step``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accel.ops import abi
from accel.ops.adam_reference import STATES, AdamHyper, adam_reference
from accel.ops.kernel import Family, dispatched
from accel.ops.lists import TensorLists


def _dispatch(key: str, tensors: TensorLists, hyper: AdamHyper) -> None:
    roles = tensors.roles
    torch.ops.accel.adam_step(
        roles["params"],
        roles["grads"],
        roles["exp_avgs"],
        roles["exp_avg_sqs"],
        roles.get("max_exp_avg_sqs"),
        roles.get("masters"),
        tensors.steps,
        hyper.lr_tensor,
        hyper.grad_scale,
        hyper.found_inf,
        hyper.noop_flag,
        hyper.lr,
        hyper.beta1,
        hyper.beta2,
        hyper.eps,
        hyper.weight_decay,
        hyper.step,
        hyper.flags,
        hyper.rounding,
        hyper.seed,
        key,
    )


_SCHEMA = (
    "(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, "
    "Tensor(d!)[]? max_exp_avg_sqs, Tensor(e!)[]? masters, Tensor(f!)[]? steps, "
    "Tensor? lr_tensor, Tensor? grad_scale, Tensor? found_inf, Tensor? noop_flag, "
    "float lr, float beta1, float beta2, float eps, float weight_decay, "
    "SymInt step, int flags, str rounding, SymInt seed, str kernel) -> ()"
)


def _adam_step(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    max_exp_avg_sqs: Sequence[Tensor] | None,
    masters: Sequence[Tensor] | None,
    steps: Sequence[Tensor] | None,
    lr_tensor: Tensor | None,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
    noop_flag: Tensor | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    flags: int,
    rounding: str,
    seed: int,
    kernel: str,
) -> None:
    roles = {
        "params": params,
        "grads": grads,
        "exp_avgs": exp_avgs,
        "exp_avg_sqs": exp_avg_sqs,
        "max_exp_avg_sqs": max_exp_avg_sqs,
        "masters": masters,
    }
    present = {role: listed for role, listed in roles.items() if listed is not None}
    hyper = AdamHyper(
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        step=step,
        flags=flags,
        rounding=rounding,
        seed=seed,
        lr_tensor=lr_tensor,
        grad_scale=grad_scale,
        found_inf=found_inf,
        noop_flag=noop_flag,
    )
    dispatched(kernel, TensorLists(present, steps), hyper)


def _fake(*_: Any) -> None:
    """Shapes and types stay as they are; nothing is returned."""


torch.library.define("accel::adam_step", _SCHEMA)
torch.library.impl("accel::adam_step", "CompositeExplicitAutograd")(_adam_step)
torch.library.register_fake("accel::adam_step")(_fake)


ADAM = Family(
    symbol="accel_adam_step",
    args=abi.AdamArgs,
    states=STATES,
    numbers=("lr", "beta1", "beta2", "eps", "weight_decay", "step", "seed", "flags"),
    reference=adam_reference,
    dispatch=_dispatch,
)
