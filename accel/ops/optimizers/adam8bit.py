"""`Adam8bit`: Adam with 8-bit moments. Codes and error bounds: `accel.ops.optimizers.codes8bit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from accel.ops import checks
from accel.ops.optimizers.checks import check_beta, check_step
from accel.ops.optimizers.codes8bit import blocks, decode, encode, memory_order
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam8bit import (
    ADAM8BIT,
    ADAM8BIT_ADAMW,
    ADAM8BIT_BIAS_CORRECTION,
    Adam8bitHyper,
)
from accel.ops.optimizers.surface import OptimizerOp, check_flag, check_mode, check_noop, unpack


class Adam8bit(OptimizerOp):
    """Adam and AdamW with moments of 8 bits, and functions that encode and decode.

    A moment is a dense uint8 tensor of the parameter's shape, with a float32 scale for every 256
    elements in the order of its memory.
    """

    name: ClassVar[str] = "adam8bit"
    family: ClassVar[Family] = ADAM8BIT
    functions: ClassVar[tuple[str, ...]] = (
        "multi_tensor_adam8bit",
        "quantize_blockwise",
        "dequantize_blockwise",
    )

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

    def quantize_blockwise(self, values: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
        """Return codes (uint8, of the values' shape) and scales, rounded to nearest.

        Args:
            values: floats, on any device; not negative unless `signed`.
            signed: whether to use the code of first moments; else that of second moments.

        Raises:
            TypeError: `values` is not a dense tensor of floats.
            ValueError: `values` has a negative number and `signed` is false.
        """
        checks.check_tensors({"values": [values]}, single=True)
        if not signed and bool((values < 0).any()):
            raise ValueError("values has negative numbers, which need signed=True.")
        dense = values if checks.is_dense(values) else values.contiguous()
        codes, scales = encode(memory_order(dense).float(), signed=bool(signed))
        shaped = torch.empty_like(dense, dtype=torch.uint8)
        memory_order(shaped).copy_(codes)
        return shaped, scales

    def dequantize_blockwise(self, codes: Tensor, scales: Tensor, signed: bool) -> Tensor:
        """Return the float32 values of codes and scales.

        Raises `TypeError` or `ValueError` naming the argument if they do not match.
        """
        check_codes({"codes": [codes]}, {"scales": [scales]})
        values = torch.empty_like(codes, dtype=torch.float32)
        memory_order(values).copy_(decode(memory_order(codes), scales, signed=bool(signed)))
        return values


def check_codes(roles: checks.Roles, extras: checks.Roles) -> None:
    """Check that codes are dense bytes and scales fit them; raises naming the tensor."""
    checks.check_lengths({**roles, **extras})
    coded = [role for role in roles if role not in ("params", "grads", "masters")]
    for role, scaled in zip(coded, extras, strict=True):
        for index, (codes, scales) in enumerate(zip(roles[role], extras[scaled], strict=True)):
            name = checks.label(scaled, index)
            for what, tensor in ((checks.label(role, index), codes), (name, scales)):
                if not isinstance(tensor, Tensor):
                    raise TypeError(f"{what} is a {type(tensor).__name__}; expected a tensor.")
            if codes.dtype != torch.uint8 or not checks.is_dense(codes):
                raise TypeError(f"{checks.label(role, index)} is not a dense tensor of uint8.")
            if scales.dtype != torch.float32 or not scales.is_contiguous():
                raise TypeError(f"{name} is not a contiguous tensor of float32.")
            if scales.numel() != blocks(codes.numel()) or scales.device != codes.device:
                raise ValueError(
                    f"{name} has {scales.numel()} elements on {scales.device}; expected "
                    f"{blocks(codes.numel())} on {codes.device}, one for every 256 codes."
                )
