"""The exact meaning of ``moving_average``, for the op conformance suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from accel.testing import BadCall, OpSpec

Case = Mapping[str, Any]
Lists = dict[str, list[Tensor]]
SHAPES = [(), (0,), (1,), (7, 5), (1031,)]


class MovingAverageSpec(OpSpec):
    """``update``: ``a + (1 - decay) * (v - a)``."""

    op = "moving_average"
    written = ("averages",)

    def cases(self) -> Iterable[Case]:
        """Return two dtypes, and decays that keep nothing, a part and everything."""
        for dtype in ("float32", "bfloat16"):
            for decay in (0.0, 0.5, 0.999, 1.0):
                yield {"dtype": dtype, "decay": decay, "seed": 1}

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return averages and values of all shapes."""

        def numbers() -> list[Tensor]:
            return [
                torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES
            ]

        return {"averages": numbers(), "values": numbers()}

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return the averages afterwards."""
        pairs = zip(given["averages"], given["values"], strict=True)
        return {"averages": [a + (1.0 - case["decay"]) * (v - a) for a, v in pairs]}

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Call the op."""
        op.update(tensors["averages"], tensors["values"], case["decay"])

    def bad(self) -> Iterable[BadCall]:
        """Return calls that must be refused."""
        yield BadCall("a decay above 1", "decay", lambda case, _: case.update(decay=1.5))
        yield BadCall("a value too few", "values", lambda _, tensors: tensors["values"].pop())

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the size of what is added and taken away."""
        return given["averages"][at].abs() + given["values"][at].abs()
