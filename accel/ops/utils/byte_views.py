"""``cast_to_byte_tensor``: the memory of a tensor as bytes, without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from accel.ops.checks import is_dense
from accel.ops.frame.declaration import DeclaredOp, OpSet


class CastToByteTensor(DeclaredOp):
    """One tensor's memory as a flat uint8 tensor, in the order of memory."""

    schema = "cast_to_byte_tensor(Tensor(a) src_tensor) -> Tensor(a)"

    def check(self, src_tensor: Tensor) -> None:
        """Refuse tensors that are not one block of memory, or whose bytes are not their values."""
        if not is_dense(src_tensor):
            raise ValueError(
                f"src_tensor has shape {tuple(src_tensor.shape)} and strides "
                f"{src_tensor.stride()}, so its memory has gaps or repeats; pass a contiguous one."
            )
        if src_tensor.is_neg() or src_tensor.is_conj():
            raise ValueError(
                "src_tensor is a negated or conjugated view, so its bytes are not its values; pass "
                "src_tensor.resolve_neg().resolve_conj()."
            )

    def reference(self, src_tensor: Tensor) -> Tensor:
        """Return a view, which keeps the memory alive; autograd does not follow it."""
        flat = src_tensor.detach().as_strided((src_tensor.numel(),), (1,))
        return flat.view(torch.uint8)


class Utils(OpSet):
    """The op of ``UtilsBuilder``, the same on every device."""

    name: ClassVar[str] = "utils"
    functions: ClassVar[tuple[str, ...]] = ("cast_to_byte_tensor",)

    def __init__(self, library: Any = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._cast = CastToByteTensor(backend=backend)

    @overload
    def cast_to_byte_tensor(self, src_tensor: Tensor) -> Tensor: ...
    @overload
    def cast_to_byte_tensor(self, src_tensor: Sequence[Tensor]) -> list[Tensor]: ...
    def cast_to_byte_tensor(self, src_tensor: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Return the memory of a tensor as a flat uint8 tensor, or of several in a list.

        Nothing is copied: the result shares the tensor's memory, which lives as long as either.

        Raises:
            TypeError: the argument is neither a dense tensor nor a list of them.
            ValueError: a tensor's memory is not one block, or its bytes are not its values.
        """
        if isinstance(src_tensor, list | tuple):
            return [self._cast(one) for one in src_tensor]
        found: Tensor = self._cast(src_tensor)
        return found
