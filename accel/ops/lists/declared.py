"""The functions of ``multi_tensor``, each as one declaration; `MultiTensor` has Apex's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from accel.ops.checks import shown
from accel.ops.lists import reference
from accel.ops.lists.listed import ListOp

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
FLAG = (torch.int32,)
CHUNK = 8192
"""Elements of one partial sum: ``ACCEL_LISTS_CHUNK`` of ``accel/multi_tensor.h``."""


class Norm(ListOp):
    """The 2-norm of a list, and of each of its tensors if `per_tensor`; both float32.

    All tensors are multiplied by `inv_scale`. `noop_flag` becomes 1 if a norm is not finite. With
    `skip`, the norms are 0 if the flag is already set.
    """

    schema = (
        "multi_tensor_norm(Tensor(a!) noop_flag, Tensor[] tensors, Tensor? inv_scale, "
        "bool per_tensor=False, bool skip=False) -> (Tensor norm, Tensor norms)"
    )
    types: ClassVar = {"noop_flag": FLAG, "tensors": FLOATS, "inv_scale": (torch.float32,)}
    sizes = ("numels(tensors)", "len(tensors)", "element_types(tensors)", "threads()")

    def check(
        self,
        noop_flag: Tensor,
        tensors: Sequence[Tensor],
        inv_scale: Tensor | None,
        per_tensor: bool,
        skip: bool,
    ) -> None:
        """Check that the flag and the factor have one element each."""
        check_single("noop_flag", noop_flag)
        if inv_scale is not None:
            check_single("inv_scale", inv_scale)

    def outputs(
        self, noop_flag: Tensor, tensors: Sequence[Tensor], inv_scale: object, per_tensor: bool,
        skip: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return uninitialized memory for the norm, of shape (1,), and for the norms of tensors."""
        device, count = noop_flag.device, len(tensors) if per_tensor else 0
        return (
            torch.empty((1,), dtype=torch.float32, device=device),
            torch.empty((count,), dtype=torch.float32, device=device),
        )

    def workspace(self, noop_flag: Tensor, tensors: Sequence[Tensor], *_: object) -> Tensor | None:
        """Return uninitialized memory for the sums of chunks and tensors on a device."""
        return room_for_sums(tensors, noop_flag.device)

    def reference(
        self,
        noop_flag: Tensor,
        tensors: Sequence[Tensor],
        inv_scale: Tensor | None,
        per_tensor: bool,
        skip: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return the norms, summed in float64."""
        return reference.norm(noop_flag, tensors, inv_scale, per_tensor, skip)


class Scale(ListOp):
    """``outputs = inputs * scale``; `noop_flag` becomes 1 if an input is not finite."""

    schema = (
        "multi_tensor_scale_(Tensor(a!) noop_flag, Tensor[] inputs, Tensor(b!)[] outputs, "
        "float scale) -> ()"
    )
    types: ClassVar = {"noop_flag": FLAG, "inputs": FLOATS, "outputs": FLOATS}
    paired = ("outputs",)
    in_place = ("inputs",)
    sizes = (
        *("numels(inputs)", "len(inputs)", "element_types(inputs)", "element_types(outputs)"),
        "threads()",
    )

    def check(self, noop_flag: Tensor, *_: object) -> None:
        """Check that the flag has one element."""
        check_single("noop_flag", noop_flag)

    def reference(
        self, noop_flag: Tensor, inputs: Sequence[Tensor], outputs: Sequence[Tensor], scale: float
    ) -> None:
        """Write the products, computed in float32."""
        reference.scale(noop_flag, inputs, outputs, scale)


class Axpby(ListOp):
    """``outputs = a * xs + b * ys``; `noop_flag` becomes 1 if a checked input is not finite.

    `arg_to_check` is 0 for xs, 1 for ys and -1 for both.
    """

    schema = (
        "multi_tensor_axpby_(Tensor(a!) noop_flag, Tensor[] xs, Tensor[] ys, "
        "Tensor(b!)[] outputs, float a, float b, int arg_to_check=-1) -> ()"
    )
    types: ClassVar = {"noop_flag": FLAG, **dict.fromkeys(("xs", "ys", "outputs"), FLOATS)}
    paired = ("ys", "outputs")
    in_place = ("xs", "ys")
    sizes = (
        *("numels(xs)", "len(xs)", "element_types(xs)", "element_types(ys)"),
        *("element_types(outputs)", "threads()"),
    )

    def check(
        self, noop_flag: Tensor, xs: object, ys: object, outputs: object, a: float, b: float,
        arg_to_check: int,
    ) -> None:  # fmt: skip
        """Check the flag and `arg_to_check`."""
        check_single("noop_flag", noop_flag)
        if arg_to_check not in (-1, 0, 1):
            raise ValueError(
                f"arg_to_check is {shown(arg_to_check)}; expected 0 (x), 1 (y) or -1 (both)."
            )

    def reference(
        self, noop_flag: Tensor, xs: Sequence[Tensor], ys: Sequence[Tensor],
        outputs: Sequence[Tensor], a: float, b: float, arg_to_check: int,
    ) -> None:  # fmt: skip
        """Write the sums, computed in float32."""
        reference.axpby(noop_flag, xs, ys, outputs, (a, b), arg_to_check)


class Clip(ListOp):
    """Scale a list in place so that its 2-norm is at most `max_norm`; return the norm before.

    The factor is ``min(1, max_norm / (norm + 1e-6))``, from the norm in float32. Tensors are also
    scaled if the norm is not finite, unless `keep_nonfinite`.
    """

    schema = (
        "multi_tensor_clip_(Tensor(a!)[] tensors, float max_norm, bool keep_nonfinite=False) "
        "-> Tensor"
    )
    types: ClassVar = {"tensors": FLOATS}
    sizes = ("numels(tensors)", "len(tensors)", "element_types(tensors)", "threads()")

    def outputs(self, tensors: Sequence[Tensor], *_: object) -> Tensor:
        """Return uninitialized memory for the norm: a float32 scalar."""
        return torch.empty((), dtype=torch.float32, device=tensors[0].device)

    def workspace(self, tensors: Sequence[Tensor], *_: object) -> Tensor | None:
        """Return uninitialized memory for the sums of chunks and tensors on a device."""
        return room_for_sums(tensors, tensors[0].device)

    def reference(self, tensors: Sequence[Tensor], max_norm: float, keep_nonfinite: bool) -> Tensor:
        """Scale the tensors, and return their norm."""
        return reference.clip(tensors, max_norm, keep_nonfinite)


def check_single(name: str, tensor: Tensor) -> None:
    """Raise `ValueError` unless a tensor has one element."""
    if tensor.numel() != 1:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; expected one element, as torch.zeros(1)."
        )


def room_for_sums(tensors: Sequence[Tensor], device: torch.device) -> Tensor | None:
    """Return uninitialized float64 memory of a device; the CPU's kernels have their own."""
    if device.type == "cpu":
        return None
    chunks = sum(-(-tensor.numel() // CHUNK) for tensor in tensors)
    return torch.empty((chunks + len(tensors),), dtype=torch.float64, device=device)
