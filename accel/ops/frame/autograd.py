"""Derivatives: an op's second op and its save rule, or a refusal that names the op.

Two `torch.autograd.Function` classes do the same. The one of the old form costs a third of the
other, but only the new form works under a transform of ``torch.func``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accel.ops.frame.interface import Declaration

Call = Callable[..., Any]


def follow(op: Declaration, call: Call, args: Sequence[Any], tensors: Sequence[Tensor]) -> Any:
    """Return the result of `call`, with the op's derivative with respect to `tensors`."""
    return _Followed.apply(op, call, args, *tensors)  # type: ignore[no-untyped-call]


def follow_transformed(op: Declaration, call: Call, args: Sequence[Any]) -> Any:
    """Do the same inside a transform of ``torch.func``; lists of tensors have no derivative."""
    return _Transformed.apply(op, call, *args)  # type: ignore[no-untyped-call]


def refuse_forward_mode(op: Declaration, args: Sequence[Any]) -> None:
    """Refuse a tensor that carries a tangent: no op here has a forward derivative.

    Raises:
        NotImplementedError: an argument has a tangent, which would be lost; names the argument.
    """
    for told, tensor in op.checks.tensors(args):
        unpack: Any = torch.autograd.forward_ad.unpack_dual
        if unpack(tensor).tangent is not None:
            raise NotImplementedError(
                f"{told} carries a tangent, and {op.parsed.name} has no forward-mode derivative; "
                f"use reverse mode, or pass only the primal."
            )


class _Followed(torch.autograd.Function):
    """The old form, whose `forward` takes the context."""

    @staticmethod
    def forward(ctx: Any, op: Declaration, call: Call, args: Sequence[Any], *_: Tensor) -> Any:
        result = call(*args)
        _keep(ctx, op, args, result)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        found = _derive(ctx, grads)
        listed = [grad for argument, grad in zip(ctx.op.parsed.arguments, found, strict=True)
                  if argument.kind.is_tensor and ctx.given[argument.name]]  # fmt: skip
        return (None, None, None, *listed)


class _Transformed(torch.autograd.Function):
    """The new form, whose `forward` runs under the outer transforms."""

    generate_vmap_rule = True

    @staticmethod
    def forward(op: Declaration, call: Call, *args: Any) -> Any:
        return call(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        op, _, *args = inputs
        _keep(ctx, op, args, output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, None, *_derive(ctx, grads))


def _keep(ctx: Any, op: Declaration, args: Sequence[Any], result: Any) -> None:
    ctx.op = op
    ctx.given = {name: value is not None for name, value in zip(op.parsed.names, args, strict=True)}
    results = result if isinstance(result, tuple) else (result,)
    ctx.floats = [one is not None and one.is_floating_point() for one in results]
    exact = [one for one, is_float in zip(results, ctx.floats, strict=True) if not is_float]
    if exact:
        ctx.mark_non_differentiable(*exact)
    saved = () if op.backward is None else tuple(op.save(tuple(args), result))
    ctx.save_for_backward(*[one for one in saved if isinstance(one, Tensor)])
    # Tensors come from autograd's saved tensors; all else is kept as it is.
    ctx.others = [None if isinstance(one, Tensor) else (one,) for one in saved]


def _derive(ctx: Any, grads: Sequence[Any]) -> list[Any]:
    """Return a gradient for each argument, or `None`."""
    op: Declaration = ctx.op
    if op.derivative is None:
        names = " or ".join(argument.name for argument in op.parsed.tensors)
        raise RuntimeError(f"{op.parsed.name} has no derivative; detach {names} before the call.")
    tensors = iter(ctx.saved_tensors)
    saved = [next(tensors) if one is None else one[0] for one in ctx.others]
    followed = [grad for grad, is_float in zip(grads, ctx.floats, strict=True) if is_float]
    found = op.derivative(*[grad.contiguous() for grad in followed], *saved)
    each = iter(found if isinstance(found, tuple) else (found,))
    return [
        next(each, None) if argument.kind.is_tensor and ctx.given[argument.name] else None
        for argument in op.parsed.arguments
    ]
