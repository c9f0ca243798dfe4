"""Code around the references' arithmetic for states of 8 bits: decoding, encoding, storing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from accel.ops.optimizers.checks import Extra
from accel.ops.optimizers.codes8bit import blocks, decode, encode, memory_order, noise
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.random_keys import random_key
from accel.ops.optimizers.reference.common import count_steps, skip_flag, step_number
from accel.ops.optimizers.reference.stepping import Numbers, Update
from accel.ops.rounding import store


def scales_of(role: str) -> str:
    """Return the role of the scales of a state's codes."""
    return f"{role[:-1]}_scales"


def coded_extras(*states: str) -> dict[str, Extra]:
    """Return what an op with these coded states takes besides them: their scales."""
    return {scales_of(role): Extra(torch.float32, blocks) for role in states}


@torch.no_grad()
def step_coded(
    tensors: TensorLists,
    hyper: Hyper,
    states: Mapping[str, bool],
    numbers: Numbers,
    update: Update,
) -> None:
    """Step every tensor of checked lists whose states are codes.

    Args:
        tensors: the lists.
        hyper: the numbers of the step.
        states: roles of the states, and whether their codes are signed.
        numbers: as in `step_each`.
        update: as in `step_each`.
    """
    for index, param in enumerate(tensors.params):
        if param.numel():
            _step_one(tensors, index, hyper, states, numbers, update)
    count_steps(tensors, hyper, 1.0)


def _like(codes: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor's values as flat float32, in the order of the codes in memory."""
    laid_out = torch.empty_like(codes, dtype=torch.float32)
    return memory_order(laid_out.copy_(tensor))


def _step_one(
    tensors: TensorLists,
    index: int,
    hyper: Hyper,
    states: Mapping[str, bool],
    numbers: Numbers,
    update: Update,
) -> None:
    roles, signs = tensors.roles, states.values()
    codes = [roles[role][index] for role in states]
    scales = [tensors.extras[scales_of(role)][index] for role in states]
    param, main = roles["params"][index], roles.get("masters", roles["params"])[index]
    old = [
        decode(memory_order(code), scale, signed=signed)
        for code, scale, signed in zip(codes, scales, signs, strict=True)
    ]
    p, grad = _like(codes[0], main), _like(codes[0], roles["grads"][index])
    time = step_number(tensors, index, hyper)
    new_p, new = update(p, grad, old, hyper, numbers(hyper, p, time))

    number = tensors.numbers[index]
    drawn = noise(random_key(hyper.seed, time, number, 1), p.numel(), p.device)
    skip = skip_flag(hyper, param.device)
    for code, scale, after, signed in zip(codes, scales, new, signs, strict=True):
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
