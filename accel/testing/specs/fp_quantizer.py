"""The exact meaning of ``fp_quantizer``: numbers that have a code come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from accel.testing.spec import BadCall, Case, Lists, OpSpec

_FORMATS = ((8, 3), (8, 2), (12, 4), (6, 2), (4, 1))
_SIZE = 24
_SHAPES = [(2, 12), (3, 4, 16), (24, 130)]


class FPQuantizerSpec(OpSpec):
    """Encoding in every format, and back, all and in parts; numbers are those that have codes."""

    op = "fp_quantizer"
    written = ("results", "chosen", "scales")

    def cases(self) -> Iterable[Case]:
        """Return the formats with each element type."""
        for at, dtype in enumerate(("float16", "bfloat16", "float32")):
            for bits, mantissa in _FORMATS:
                for stochastic in (0, 1):
                    yield {"dtype": dtype, "bits": bits, "mantissa": mantissa, "seed": at,
                           "stochastic": stochastic}  # fmt: skip

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return numbers of 1 to 2^mantissa steps, the largest of each group the format's."""
        tensors = []
        part = _part(case)
        for shape in _SHAPES:
            whole, power, sign = (
                torch.randint(0, most, shape, generator=generator, dtype=torch.float64,
                              device="cpu")
                for most in (2**part, 2, 2)
            )  # fmt: skip
            x = (1 + whole / 2**part) * 2.0**-power * (1 - 2 * sign)
            x.view(-1, _SIZE)[:, 0] = 2 - 2.0**-part
            tensors.append(x / 4)
        return {"inputs": tensors, "results": [], "chosen": [], "scales": []}

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return the elements, those of the last and the first group, and scales."""
        part = _part(case)
        exponents = 2 ** (case["bits"] - 1 - part)
        scale = 2.0 ** -(exponents - 1 - (exponents // 2 - 1)) / 4
        rows = [x.reshape(-1, _SIZE) for x in given["inputs"]]
        return {
            "results": given["inputs"],
            "chosen": [one[[-1, 0]] for one in rows],
            "scales": [torch.full_like(one[:, :1], scale) for one in rows],
        }

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Encode and decode."""
        bits, mantissa = case["bits"], case["mantissa"]
        how = (case.get("group_size", _SIZE), mantissa, bits - mantissa - 1)
        tensors.update(results=[], chosen=[], scales=[])
        for x in tensors["inputs"]:
            groups = x.numel() // _SIZE
            out = torch.empty((groups, _SIZE * bits // 8 + 4), dtype=torch.uint8, device=x.device)
            op.quantize(out, x, how[0], case["stochastic"], bits, mantissa)
            result = torch.empty_like(x)
            op.dequantize(result, out, *how)
            at = torch.tensor([groups - 1, 0], dtype=torch.int32, device=x.device)
            chosen = torch.empty((2, _SIZE), dtype=x.dtype, device=x.device)
            op.selective_dequantize(chosen, out, at, *how)
            tensors["results"].append(result)
            tensors["chosen"].append(chosen)
            tensors["scales"].append(op.get_scales(out, groups).clone())

    def bad(self) -> Iterator[BadCall]:
        """Return calls that must be refused."""
        yield BadCall("no groups", "group_size", lambda case, _: case.update(group_size=0))
        yield BadCall("five bits", "q_bits", lambda case, _: case.update(bits=5))
        yield BadCall("doubles", "val", lambda _, lists: lists.update(
            inputs=[one.double() for one in lists["inputs"]]))  # fmt: skip

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the size of results."""
        return expected[name][at].abs()


def _part(case: Case) -> int:
    """Return how many bits a code's mantissa has; DeepSpeed's callers say 4 for 12-bit codes."""
    return 7 if case["bits"] == 12 else int(case["mantissa"])
