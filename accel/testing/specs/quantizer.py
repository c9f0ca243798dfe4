"""The exact meaning of ``quantizer``: numbers that have a code come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from accel.testing.spec import BadCall, Case, Lists, OpSpec

_GROUPS = 12
_SHAPES = [(12, 2), (24, 8), (12, 1030)]


class QuantizerSpec(OpSpec):
    """Quantizing, in both orders of groups, and back; numbers are small integers."""

    op = "quantizer"
    written = ("results", "codes", "params")

    def cases(self) -> Iterable[Case]:
        """Return both kinds and widths with each element type."""
        for at, dtype in enumerate(("float16", "bfloat16", "float32")):
            for bits in (8, 4):
                for kind in (0, 1):
                    yield {"dtype": dtype, "bits": bits, "kind": kind, "seed": at}

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return codes of groups, both ends among them, times a power of two."""
        most = 2 ** (case["bits"] - 1)
        tensors = []
        for shape in _SHAPES:
            x = torch.randint(-most, most, shape, generator=generator, dtype=torch.float64,
                              device="cpu")  # fmt: skip
            rows = x.view(_GROUPS, -1)
            rows[:, 0] = -most
            if case["kind"]:
                rows[:, 1] = most
            tensors.append(x / 16)
        return {"inputs": tensors, "results": [], "codes": [], "params": []}

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return elements, codes and parameters; the largest asymmetric code is one less."""
        most = 2 ** (case["bits"] - 1)
        codes = [(16 * x).clamp(max=most - 1) for x in given["inputs"]]
        step = torch.full((_GROUPS, 1), 1 / 16, dtype=torch.float64, device="cpu")
        params = torch.cat([step, step * 0], dim=1) if case["kind"] else step
        return {"codes": codes, "results": [one / 16 for one in codes], "params": [params] * 3}

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Encode and decode."""
        bits, kind = case["bits"], op.QuantizationType(case["kind"])
        groups = case.get("groups", _GROUPS)
        made = [op.quantize(x, groups, bits, kind) for x in tensors["inputs"]]
        tensors["results"] = [op.dequantize_fp32(*one, groups, bits, kind) for one in made]
        tensors["params"] = [params for _, params in made]
        tensors["codes"] = [_codes(one, bits) for one, _ in made]
        for x, (codes, _) in zip(tensors["inputs"], made, strict=True):
            moved, _ = op.swizzle_quant(x, groups, bits, kind, 1, 3, 2)
            order = [0, 3, 1, 4, 2, 5]
            assert torch.equal(moved.view(6, -1)[order], codes.reshape(6, -1)), "swizzled otherwise"

    def bad(self) -> Iterator[BadCall]:
        """Return calls that must be refused."""
        yield BadCall("no groups", "groups", lambda case, _: case.update(groups=0))
        yield BadCall("five bits", "num_bits", lambda case, _: case.update(bits=5))
        yield BadCall("doubles", "vals", lambda _, lists: lists.update(
            inputs=[one.double() for one in lists["inputs"]]))  # fmt: skip

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the size of results; codes are exact."""
        found = expected[name][at]
        return torch.zeros_like(found) if name == "codes" else found.abs()


def _codes(codes: Tensor, bits: int) -> Tensor:
    """Return one code an element."""
    if bits == 8:
        return codes
    both = torch.stack([codes << 4 >> 4, codes >> 4], dim=-1)
    return both.view(*codes.shape[:-1], -1)
