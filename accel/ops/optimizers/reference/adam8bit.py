"""Adam with 8-bit moments in plain PyTorch, and as a family of kernels: ``accel/adam8bit.h``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accel.ops.optimizers.checks import Extra
from accel.ops.optimizers.codes8bit import blocks, decode, encode, memory_order, noise
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.random_keys import random_key
from accel.ops.optimizers.reference.adam import (
    ADAM_ADAMW,
    ADAM_BIAS_CORRECTION,
    ADAM_MAXIMIZE,
    AdamHyper,
    adam_numbers,
    adam_update,
)
from accel.ops.optimizers.reference.common import count_steps, skip_flag, step_number
from accel.ops.rounding import store

ADAM8BIT_ADAMW = 1
ADAM8BIT_BIAS_CORRECTION = 2
ADAM8BIT_MAXIMIZE = 4

_FLAGS = (
    (ADAM8BIT_ADAMW, ADAM_ADAMW),
    (ADAM8BIT_BIAS_CORRECTION, ADAM_BIAS_CORRECTION),
    (ADAM8BIT_MAXIMIZE, ADAM_MAXIMIZE),
)


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Adam8bitHyper(AdamHyper):
    """The numbers of one step: Adam's, with ``ADAM8BIT_*`` as flags.

    `seed` is also the seed of the moments' stochastic encoding.
    """


@torch.no_grad()
def adam8bit_reference(tensors: TensorLists, hyper: Adam8bitHyper) -> None:
    """Step every tensor of checked lists.

    On the CPU the bits are those of the native kernel, except the payload of NaN.
    """
    for index, param in enumerate(tensors.params):
        if param.numel():
            _step_one(tensors, index, hyper)
    count_steps(tensors, hyper, 1.0)


def _like(codes: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor's values as flat float32, in the order of the codes in memory."""
    laid_out = torch.empty_like(codes, dtype=torch.float32)
    return memory_order(laid_out.copy_(tensor))


def _step_one(tensors: TensorLists, index: int, hyper: Adam8bitHyper) -> None:
    roles, extras = tensors.roles, tensors.extras
    codes = [roles[role][index] for role in ("exp_avgs", "exp_avg_sqs")]
    scales = [extras[role][index] for role in ("exp_avg_scales", "exp_avg_sq_scales")]
    param, main = roles["params"][index], roles.get("masters", roles["params"])[index]
    old = [
        decode(memory_order(code), scale, signed=signed)
        for code, scale, signed in zip(codes, scales, (True, False), strict=True)
    ]
    p, grad = _like(codes[0], main), _like(codes[0], roles["grads"][index])
    flags = sum(theirs for ours, theirs in _FLAGS if hyper.flags & ours)
    time = step_number(tensors, index, hyper)
    numbers = adam_numbers(hyper, p, time, flags)
    new_p, new = adam_update(p, grad, old, hyper, numbers, flags)

    number = tensors.numbers[index]
    drawn = noise(random_key(hyper.seed, time, number, 1), p.numel(), p.device)
    skip = skip_flag(hyper, param.device)
    for code, scale, after, signed in zip(codes, scales, new, (True, False), strict=True):
        new_code, new_scale = encode(after, signed=signed, noise=drawn)
        flat = memory_order(code)
        flat.copy_(new_code if skip is None else torch.where(skip, flat, new_code))
        scale.copy_(new_scale if skip is None else torch.where(skip, scale, new_scale))
    shaped = torch.empty_like(codes[0], dtype=torch.float32)
    memory_order(shaped).copy_(new_p if skip is None else torch.where(skip, p, new_p))
    if main is not param:
        main.copy_(shaped)
        if skip is not None:
            shaped = torch.where(skip, param.float(), shaped)
    store(param, shaped, hyper.rounding, random_key(hyper.seed, time, number, 0))


ADAM8BIT = Family(
    name="adam8bit",
    states=("exp_avgs", "exp_avg_sqs"),
    hyper=Adam8bitHyper,
    reference=adam8bit_reference,
    extras=dict.fromkeys(("exp_avg_scales", "exp_avg_sq_scales"), Extra(torch.float32, blocks)),
    coded=True,
    flags=2 * ADAM8BIT_MAXIMIZE - 1,
)
