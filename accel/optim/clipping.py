"""`clip_grad_norm_`: torch's function of that name, in two passes over memory."""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from accel.current import accelerator_for
from accel.ops.frame.call import has_memory
from accel.ops.frame.tensors import PLAIN

_TYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale gradients in place so that their norm, as if of one vector, is at most `max_norm`.

    The factor is torch's, ``min(1, max_norm / (norm + 1e-6))``, from a norm that is summed in
    double. If the factor is 1, no gradient is written; torch would write the same bits. If the norm
    is NaN, gradients become NaN, as in torch.

    Calls that no kernel supports go to `torch.nn.utils.clip_grad_norm_`: other norms, other element
    types, sparse and strided gradients, tensor subclasses such as DTensor, gradients that share
    memory, several devices, devices without a kernel, float16 with `error_if_nonfinite`, and calls
    that are being compiled.

    Args:
        parameters: one or more parameters; those without a gradient are ignored.
        max_norm: the largest allowed norm.
        norm_type: order of the norm; only 2 has a kernel.
        error_if_nonfinite: raise if the norm is NaN or infinite, before anything is written.
        foreach: passed on if torch's function runs.

    Returns:
        The norm before clipping, a scalar of the gradients' device and common type. A float16 norm
        beyond 65504 is returned as infinity, but gradients are scaled correctly.

    Raises:
        RuntimeError: the norm is not finite and `error_if_nonfinite` is set.
        Exception: anything that torch's function raises.
    """
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not listed and isinstance(parameters, types.GeneratorType):
        warnings.warn(
            "`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2
        )
    ours = float(norm_type) == 2.0 and not torch.compiler.is_compiling()
    if error_if_nonfinite and ours:
        # A norm beyond float16's range is infinite for the caller, but finite for a kernel.
        ours = all(getattr(one, "dtype", None) != torch.float16 for one in listed)
    if listed and ours:
        with torch.no_grad():
            found = _clipped(listed, float(max_norm), bool(error_if_nonfinite))
        if found is not None:
            total, grads = found
            if error_if_nonfinite and not bool(total.isfinite()):
                raise RuntimeError(
                    f"The total norm of order {float(norm_type)} for gradients from `parameters` "
                    f"is non-finite, so it cannot be clipped. To disable this error and scale the "
                    f"gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
                )
            return total if total.dtype == (common := _common(grads)) else total.to(common)
    return torch.nn.utils.clip_grad_norm_(listed, max_norm, norm_type, error_if_nonfinite, foreach)


def _clipped(
    listed: list[Any], max_norm: float, keep: bool
) -> tuple[Tensor, Sequence[Tensor]] | None:
    """Return the norm and the gradients that a kernel has scaled; ``None`` without a kernel."""
    first = listed[0]
    if type(first) not in PLAIN or first.device.type == "meta":
        return None
    op: Any = accelerator_for(first).create_op_builder("multi_tensor").load()
    if op.implementation == "reference":
        return None
    found: tuple[Tensor, Sequence[Tensor]] | None
    found = op.clip_gradients_if_usual(listed, max_norm, keep)
    if found is not None:
        return found
    grads = [grad for one in listed if (grad := one.grad) is not None]
    total: Tensor | None = None
    if op.backend == "cpu":
        # If the library leaves the work to Python, torch's function is faster.
        total = op.clip_if_usual(grads, max_norm, keep) if len(grads) < len(listed) else None
    elif grads and grads[0].device.type == op.backend and are_ours(grads):
        total = op.clip_checked(grads, max_norm, keep)
    return None if total is None else (total, grads)


def are_ours(grads: Sequence[Tensor]) -> bool:
    """Return whether a kernel may take the gradients, as `clip_checked` requires."""
    device, inference = grads[0].device, torch.is_inference_mode_enabled()
    spans = []
    for one in grads:
        if not (
            type(one) in PLAIN
            and one.layout is torch.strided
            and one.dtype in _TYPES
            and one.device == device
            and one.is_contiguous()
            and not one.is_neg()
            and (inference or not one.is_inference())
            and has_memory(one)
        ):
            return False
        if one.numel():
            start = one.data_ptr()
            spans.append((start, start + one.nbytes))
    spans.sort()
    return all(before[1] <= after[0] for before, after in pairwise(spans))


def _common(grads: Sequence[Tensor]) -> torch.dtype:
    """Return the type that torch promotes the gradients' types to."""
    first = grads[0].dtype
    # Any two different ones of these types promote to float32.
    alike = first != torch.float32 and all(one.dtype == first for one in grads)
    return first if alike else torch.float32
