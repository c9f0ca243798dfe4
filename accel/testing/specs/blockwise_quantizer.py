"""The exact meaning of ``blockwise_quantizer``: numbers that have a code come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from accel.ops.quantizers.codes import QUANT_TYPES, dynamic_map, four_bit
from accel.testing.spec import BadCall, Case, Lists, OpSpec

_NUMELS = (0, 1, 64, 333, 4100)


class BlockwiseQuantizerSpec(OpSpec):
    """Both pairs of functions; numbers are values of codes, times a power of two a block."""

    op = "blockwise_quantizer"
    written = ("results", "codes", "absmax")

    def cases(self) -> Iterable[Case]:
        """Return each kind of codes with each element type."""
        for at, dtype in enumerate(("float32", "bfloat16", "float16")):
            for kind, blocksize in (("dynamic", 64), ("dynamic", 100), ("nf4", 64), ("fp4", 32)):
                yield {"kind": kind, "blocksize": blocksize, "dtype": dtype, "seed": at}

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return values of random codes; every block has the largest."""
        values = _values(case)
        tensors = []
        for numel in _NUMELS:
            chosen = torch.randint(0, len(values), (numel,), generator=generator, dtype=torch.int64,
                                   device="cpu")  # fmt: skip
            x = values[chosen]
            x[:: case["blocksize"]] = 1.0
            block = torch.arange(numel, dtype=torch.float64, device="cpu") // case["blocksize"]
            tensors.append(x * 2.0 ** (block % 5 - 2))
        return {"inputs": tensors, "results": [], "codes": [], "absmax": []}

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return the inputs as encoded, the indices of their values, and magnitudes."""
        values = _values(case)
        found: Lists = {name: [] for name in self.written}
        rising, order = values.sort(stable=True)
        for x in given["inputs"]:
            starts = range(0, x.numel(), case["blocksize"])
            absmax = [float(x[at : at + case["blocksize"]].abs().max()) for at in starts]
            scale = torch.tensor(absmax, dtype=torch.float64, device="cpu")
            spread = scale.repeat_interleave(case["blocksize"])[: x.numel()]
            nearest = (x[:, None] / spread[:, None] - rising).abs().argmin(dim=1)
            found["codes"].append(order[nearest].double())
            found["results"].append(rising[nearest] * spread)
            found["absmax"].append(scale)
        return found

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Encode and decode."""
        blocksize, inputs = case["blocksize"], tensors["inputs"]
        if case["kind"] == "dynamic":
            made = [op.quantize_blockwise(x, None, blocksize) for x in inputs]
            pairs = zip(inputs, made, strict=True)
            tensors["results"] = [
                op.dequantize_blockwise(*pair, None, blocksize, x.dtype) for x, pair in pairs
            ]
            tensors["codes"], tensors["absmax"] = map(list, zip(*made, strict=True))
            return
        made = [op.quantize_4bit(x, blocksize, case["kind"]) for x in inputs]
        tensors["results"] = [op.dequantize_4bit(*pair) for pair in made]
        tensors["absmax"] = [state.absmax for _, state in made]
        tensors["codes"] = [
            torch.cat([packed >> 4, packed & 15], dim=1).flatten()[: x.numel()]
            for x, (packed, _) in zip(inputs, made, strict=True)
        ]

    def bad(self) -> Iterator[BadCall]:
        """Return calls that must be refused."""
        yield BadCall("no block", "blocksize", lambda case, _: case.update(blocksize=0))
        yield BadCall("doubles", "a has dtype", lambda _, lists: lists.update(
            inputs=[one.double() for one in lists["inputs"]]))  # fmt: skip

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the size of results; codes are exact."""
        found = expected[name][at]
        return torch.zeros_like(found) if name == "codes" else found.abs()


def _values(case: Case) -> Tensor:
    """Return the values of all codes; the unused one of two codes for 0 gets a distant value."""
    kind = case["kind"]
    values = [*(dynamic_map() if kind == "dynamic" else four_bit(kind).values)]
    if kind in QUANT_TYPES:
        unmade = {*range(16)} - {*four_bit(kind).rising}
        values = [7.0 if code in unmade else value for code, value in enumerate(values)]
    return torch.tensor(values, dtype=torch.float64, device="cpu")
