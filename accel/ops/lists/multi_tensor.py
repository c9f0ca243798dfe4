"""``multi_tensor``: Apex's functions over lists of tensors, with its names and argument orders."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops.base import Implementation
from accel.ops.checks import shown
from accel.ops.frame.declaration import OpSet
from accel.ops.lists.declared import Axpby, Clip, Norm, Scale
from accel.ops.lists.listed import UNUSUAL


class MultiTensor(OpSet):
    """The op that ``MultiTensorBuilder`` loads.

    Lists may mix float32, bfloat16 and float16. Results depend neither on the number of threads nor
    on `chunk_size`, which is checked but not used. On every rung, norms are float32 numbers at most
    one step from the exact ones; all other results have the same bits on every rung.

    `noop_flag`, one int32 on the tensors' device, is set to 1 if a value is not finite, and never
    set to 0. Autograd does not follow these functions.
    """

    name: ClassVar[str] = "multi_tensor"
    ops: ClassVar = (Norm, Scale, Axpby, Clip)
    functions: ClassVar[tuple[str, ...]] = (
        "multi_tensor_l2norm",
        "multi_tensor_l2norm_mp",
        "multi_tensor_unscale_l2norm",
        "multi_tensor_scale",
        "multi_tensor_axpby",
        "multi_tensor_clip",
    )

    def __init__(self, library: Implementation | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._norm: Any = self._loaded[Norm]
        self._scale: Any = self._loaded[Scale]
        self._axpby: Any = self._loaded[Axpby]
        self._clip: Any = self._loaded[Clip]

    @classmethod
    def notes(cls, backend: str) -> tuple[str, ...]:
        """Return a note on whether the library or Python checks the tensors of a call."""
        if backend != "cpu":
            return ("Python checks every tensor of a call.",)
        from accel.ops.python_api import python_api

        api = python_api()
        if isinstance(api, str):
            return (f"Python checks every tensor of a call: {api}.",)
        return ("The library checks every tensor of a usual call.",)

    def multi_tensor_l2norm(
        self,
        chunk_size: int,
        noop_flag: Tensor,
        tensor_lists: Sequence[Sequence[Tensor]],
        per_tensor: bool | None = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the 2-norm of all tensors, of shape (1,), and the norm of each; float32.

        Sets `noop_flag` if a returned norm is not finite. Norms of empty tensors are 0.

        Args:
            chunk_size: a positive int.
            noop_flag: see the class.
            tensor_lists: one list.
            per_tensor: whether the second result has the norm of each tensor; if not, its shape is
                (0,).

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: a shape, a device or a number is wrong.
        """
        tensors, each = self._one(chunk_size, tensor_lists), _flag(per_tensor)
        return self._norm(noop_flag, tensors, None, each, False)  # type: ignore[no-any-return]

    def multi_tensor_l2norm_mp(
        self,
        chunk_size: int,
        noop_flag: Tensor,
        tensor_lists: Sequence[Sequence[Tensor]],
        per_tensor: bool | None = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the same as `multi_tensor_l2norm`, or zeros if `noop_flag` is already set."""
        tensors, each = self._one(chunk_size, tensor_lists), _flag(per_tensor)
        return self._norm(noop_flag, tensors, None, each, True)  # type: ignore[no-any-return]

    def multi_tensor_unscale_l2norm(
        self,
        chunk_size: int,
        noop_flag: Tensor,
        tensor_lists: Sequence[Sequence[Tensor]],
        inv_scale: Tensor,
        per_tensor: bool | None = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the norms of the tensors times `inv_scale`, a float32 tensor of one element.

        The tensors are not changed. See `multi_tensor_l2norm`.
        """
        tensors, each = self._one(chunk_size, tensor_lists), _flag(per_tensor)
        if not isinstance(inv_scale, Tensor):
            raise TypeError(f"inv_scale is {shown(inv_scale)}; expected a float32 tensor.")
        return self._norm(noop_flag, tensors, inv_scale, each, False)  # type: ignore[no-any-return]

    def multi_tensor_scale(
        self,
        chunk_size: int,
        noop_flag: Tensor,
        tensor_lists: Sequence[Sequence[Tensor]],
        scale: float,
    ) -> None:
        """Write the first list times `scale` into the second one.

        An output may be its own input. Sets `noop_flag` if an input is not finite.

        Args:
            chunk_size: a positive int.
            noop_flag: see the class.
            tensor_lists: inputs and outputs.
            scale: a number, rounded to float32.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: lengths, shapes or devices differ, or an output shares memory or requires
                grad; nothing has been written.
        """
        _check_chunk(chunk_size)
        inputs, outputs = _unpack(tensor_lists, "inputs", "outputs")
        self._scale(noop_flag, inputs, outputs, scale)

    def multi_tensor_axpby(
        self,
        chunk_size: int,
        noop_flag: Tensor,
        tensor_lists: Sequence[Sequence[Tensor]],
        a: float,
        b: float,
        arg_to_check: int = -1,
    ) -> None:
        """Write ``a * x + b * y`` of the first two lists into the third one.

        An output may be its own x or y. Sets `noop_flag` if a checked x or y is not finite.

        Args:
            chunk_size: a positive int.
            noop_flag: see the class.
            tensor_lists: xs, ys and outputs.
            a: a number, rounded to float32.
            b: a number, rounded to float32.
            arg_to_check: 0 for xs, 1 for ys, -1 for both.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: lengths, shapes or devices differ, or an output shares memory or requires
                grad; nothing has been written.
        """
        _check_chunk(chunk_size)
        xs, ys, outputs = _unpack(tensor_lists, "xs", "ys", "outputs")
        self._axpby(noop_flag, xs, ys, outputs, a, b, arg_to_check)

    def multi_tensor_clip(
        self, tensors: Sequence[Tensor], max_norm: float, keep_nonfinite: bool = False
    ) -> Tensor:
        """Scale tensors in place so that their 2-norm is at most `max_norm`.

        The factor is ``min(1, max_norm / (norm + 1e-6))``; if it is 1, nothing is written.

        Args:
            tensors: at least one, sharing no memory.
            max_norm: any number.
            keep_nonfinite: whether a norm that is not finite leaves the tensors as they are,
                instead of making them 0 or NaN.

        Returns:
            The norm before scaling, a float32 scalar.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: there is no tensor, or one shares memory or requires grad; nothing has been
                written.
        """
        return self._clip(tensors, max_norm, keep_nonfinite)  # type: ignore[no-any-return]

    def clip_if_usual(
        self, tensors: Sequence[Tensor], max_norm: float, keep_nonfinite: bool = False
    ) -> Tensor | None:
        """Do `multi_tensor_clip` if a quick check finds nothing unusual about the tensors.

        Otherwise returns ``None`` and does nothing: the call may be wrong, or valid but slower.
        """
        found = self._clip.quickly(tensors, max_norm, keep_nonfinite)
        return None if found is UNUSUAL else found

    def clip_gradients_if_usual(
        self, parameters: list[Any], max_norm: float, keep_nonfinite: bool = False
    ) -> tuple[Tensor, list[Tensor]] | None:
        """Do `clip_if_usual` on the parameters' gradients; return the norm and the gradients."""
        grads: list[Any] = [None] * len(parameters)
        call = (grads, max_norm, keep_nonfinite)
        found = self._clip.quickly(*call, sources=[*parameters])
        return None if found is UNUSUAL else (found, grads)

    def l2norm_of_gradients_if_usual(self, parameters: list[Any]) -> Tensor | None:
        """Return the 2-norm of the gradients of parameters, of shape (1,).

        ``None`` if a parameter has no gradient, or anything about one is unusual.
        """
        flag = torch.zeros(1, dtype=torch.int32, device=self.backend)
        grads: list[Any] = [None] * len(parameters)
        found = self._norm.quickly(flag, grads, None, False, False, sources=parameters)
        return None if found is UNUSUAL else found[0]

    def clip_checked(
        self, tensors: Sequence[Tensor], max_norm: float, keep_nonfinite: bool = False
    ) -> Tensor:
        """Do `multi_tensor_clip` on tensors that the caller has checked; wrong ones corrupt memory.

        They must be dense and contiguous, own their memory and share none, and be on one device of
        the op's backend; no subclasses, negated views, or tensors of inference mode outside of it.
        """
        return self._clip.trusting(tensors, max_norm, keep_nonfinite)  # type: ignore[no-any-return]

    def _one(self, chunk_size: int, tensor_lists: Any) -> Sequence[Tensor]:
        _check_chunk(chunk_size)
        return _unpack(tensor_lists, "tensors")[0]  # type: ignore[no-any-return]


def _check_chunk(chunk_size: Any) -> None:
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, Integral | torch.SymInt):
        raise TypeError(f"chunk_size is {shown(chunk_size)}; expected an int.")
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {shown(chunk_size)}; expected a number from 1 on.")


def _flag(per_tensor: Any) -> bool:
    if per_tensor is not None and not isinstance(per_tensor, bool):
        raise TypeError(f"per_tensor is {shown(per_tensor)}; expected a bool or None.")
    return bool(per_tensor)


def _unpack(tensor_lists: Any, *names: str) -> Sequence[Any]:
    """Return the lists of a nested list; the op checks their contents."""
    lists = tensor_lists if isinstance(tensor_lists, list | tuple) else ()
    if len(lists) != len(names):
        raise ValueError(f"tensor_lists must be {len(names)} lists: {', '.join(names)}.")
    return lists
