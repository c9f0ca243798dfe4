"""The exact meaning of ``utils``: the bytes of tensors, which are the tensors' own memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from accel.testing.spec import BadCall, Case, Lists, OpSpec, dtype_of

_SHAPES = [(), (0,), (1,), (7, 5), (1031,)]


class UtilsSpec(OpSpec):
    """``cast_to_byte_tensor``, of a list and, through its first and last, of one tensor."""

    op = "utils"
    written = ("bytes",)
    slack = 0.0

    def cases(self) -> Iterable[Case]:
        """Return element types of every size; all hold small integers, which all represent."""
        for dtype in ("float32", "bfloat16", "float64", "uint8", "int8", "int16", "int64", "bool"):
            yield {"dtypes": {"src_tensor": dtype}, "seed": 1}

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return numbers of all shapes."""
        numbers = [
            torch.randint(0, 2, shape, generator=generator, dtype=torch.float64, device="cpu")
            for shape in _SHAPES
        ]
        return {"src_tensor": numbers, "bytes": []}

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return the bytes, through Python's `bytes`."""
        dtype = dtype_of(case, "src_tensor")
        return {"bytes": [_bytes(tensor.to(dtype)) for tensor in given["src_tensor"]]}

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Call the op, and check that its results share the tensors' memory."""
        source = tensors["src_tensor"]
        found = op.cast_to_byte_tensor(source)
        if isinstance(found, list):
            found[-1] = op.cast_to_byte_tensor(source[-1])
            shared = [one.untyped_storage()._cdata for one in source]
            assert [one.untyped_storage()._cdata for one in found] == shared, "bytes are a copy"
        tensors["bytes"] = found

    def bad(self) -> Iterable[BadCall]:
        """Return calls that must be refused."""
        what = "a tensor whose memory has gaps"
        yield BadCall(what, "src_tensor", lambda _, tensors: tensors.update(
            src_tensor=[tensors["src_tensor"][0].new_zeros(8)[::2]]))  # fmt: skip

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return zeros: bytes are exact."""
        return torch.zeros_like(expected[name][at])


def _bytes(tensor: Tensor) -> Tensor:
    # In the order of memory, which the tensor's strides give.
    flat = tensor.as_strided((tensor.numel(),), (1,)).clone()
    raw = ctypes.string_at(flat.data_ptr(), flat.nbytes) if flat.numel() else b""
    return torch.tensor([*raw], dtype=torch.float64, device="cpu")
