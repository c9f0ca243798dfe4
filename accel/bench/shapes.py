"""Shapes of parameters that the benchmarks use."""

from __future__ import annotations

import math
from dataclasses import dataclass

_LAYERS, _WIDTH = 12, 768
_GPT2 = [(50257, _WIDTH), (1024, _WIDTH), (_WIDTH,), (_WIDTH,)] + _LAYERS * [
    (_WIDTH,), (_WIDTH,), (3 * _WIDTH, _WIDTH), (3 * _WIDTH,), (_WIDTH, _WIDTH), (_WIDTH,),
    (_WIDTH,), (_WIDTH,), (4 * _WIDTH, _WIDTH), (4 * _WIDTH,), (_WIDTH, 4 * _WIDTH), (_WIDTH,),
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A list of parameters: a title for people, and their shapes."""

    title: str
    shapes: list[tuple[int, ...]]

    @property
    def elements(self) -> int:
        """The number of elements in all parameters."""
        return sum(math.prod(shape) for shape in self.shapes)


CASES = {
    "big": Case("1 x 32 M", [(32 << 20,)]),
    "gpt2": Case("GPT-2 124M", _GPT2),
    "few": Case("100 x 1024", [(1024,)] * 100),
    "many": Case("2000 x 1024", [(1024,)] * 2000),
    "middle": Case("300 x 10 000", [(10_000,)] * 300),
}
