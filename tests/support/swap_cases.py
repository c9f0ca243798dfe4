"""What the tests of states in files share: odd parameters, runs of steps, comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LIMIT = 1 << 20
"""Bytes of buffers: the smallest limit."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

Make = Callable[[Sequence[nn.Parameter]], Any]


def parameters(dtypes: Sequence[torch.dtype] = (torch.float32,)) -> list[nn.Parameter]:
    """Return parameters of many sizes and layouts; the largest alone has four times `LIMIT`."""
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    found = [drawn(1 << 19), drawn(64, 32).t(), drawn(64, 32)[:, ::2]]
    if torch.bfloat16 in dtypes:
        found.append(drawn(1 << 17).bfloat16())  # Cut, and rounded at random.
    for dtype in dtypes:
        found += [drawn(*shape).to(dtype) for shape in ((100, 33), (7,), (0,), (), (3, 4, 5))]
    return [nn.Parameter(one) for one in found]


def run(
    params: Sequence[nn.Parameter], optimizer: Any, steps: Iterable[int], *, gaps: bool = False
) -> None:
    """Do steps with gradients that follow from the step's number alone.

    With `gaps`, some parameters have no gradient in some steps, and the strides of some change.
    """
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for index, param in enumerate(params):
            grad = torch.randn(param.shape, generator=generator).to(param.dtype)
            if gaps and param.dim() == 2 and step % 2:
                grad = grad.t().contiguous().t()
            param.grad = None if gaps and (index + step) % 3 == 0 else grad
        optimizer.step()


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def same_states(first: dict[Any, Any], second: dict[Any, Any]) -> bool:
    """Return whether two entries ``"state"`` of state dicts have the same keys and bits."""
    return first.keys() == second.keys() and all(
        first[number].keys() == second[number].keys()
        and all(
            torch.equal(value, second[number][key]) and value.dtype == second[number][key].dtype
            for key, value in first[number].items()
        )
        for number in first
    )


def left(folder: Path) -> set[str]:
    """Return the names in a folder."""
    return {path.name for path in folder.iterdir()}
