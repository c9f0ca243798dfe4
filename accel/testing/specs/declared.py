"""First cases of an op that is one declaration: each function against its reference in float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import Parameter
from typing import Any, ClassVar

import torch
from torch import Tensor

from accel.ops.frame.declaration import DeclaredOp, OpSet
from accel.ops.frame.schema import Argument
from accel.testing.spec import Case, Lists, OpSpec

_SHAPES = [(6, 4), (2, 1), (1032,)]


class DeclaredSpec(OpSpec):
    """A spec from a schema: element types, shapes, and calls by the declaration's examples.

    A function is left out if its tensors may differ in shape, since the shapes are not known here.

    Args:
        name: the op's name.
        kind: the op's class.
    """

    written: ClassVar[tuple[str, ...]] = ("result",)

    def __init__(self, name: str, kind: type[DeclaredOp] | type[OpSet]) -> None:
        self.op = name  # type: ignore[misc]
        ops = kind.ops if issubclass(kind, OpSet) else (kind,)
        self.kinds = {one.parsed.name: one for one in ops if _is_known(one)}

    def cases(self) -> Iterable[Case]:
        """Return each function with each element type that it takes, shape and example."""
        for name, kind in self.kinds.items():
            first = kind.parsed.tensors[0]
            types = kind.types.get(first.name, (torch.float32, torch.bfloat16))
            for dtype in types:
                for numbers in kind.examples:
                    for shape in range(1 if first.kind.listed else len(_SHAPES)):
                        yield {"function": name, "dtype": str(dtype).removeprefix("torch."),
                               "numbers": dict(numbers), "shape": shape, "seed": 1}  # fmt: skip

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return normally distributed numbers for all tensors; written tensors are the result."""
        lists: Lists = {"result": []}
        for argument in self.kinds[case["function"]].parsed.tensors:
            shapes = _SHAPES if argument.kind.listed else [_SHAPES[case["shape"]]]
            made = [
                torch.randn(one, generator=generator, dtype=torch.float64, device="cpu")
                for one in shapes
            ]
            lists["result" if argument.kind.written else argument.name] = made
        return lists

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return the reference's results in float64."""
        kind = self.kinds[case["function"]]
        result = kind().reference(*self._arguments(kind, case, given))
        return {"result": given["result"] if result is None else _listed(result)}

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Call the function by position and name, as the schema has it."""
        kind = self.kinds[case["function"]]
        by_position, by_name = kind.parsed.split(self._arguments(kind, case, tensors))
        result = getattr(op, kind.parsed.name)(*by_position, **by_name)
        if result is not None:
            tensors["result"] = _listed(result)
            for found, made in zip(
                tensors["result"],
                _listed(kind().fake(*by_position, *by_name.values())),
                strict=True,
            ):
                same = (found.dtype, found.shape) == (made.dtype, made.shape)
                assert same, f"{kind.parsed.name}: outputs() makes other results than it returns"

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the larger of the result and the largest input; of integers, one step."""
        kind = self.kinds[case["function"]]
        most = max(float(one.abs().max()) for listed in given.values() for one in listed)
        found = expected[name][at]
        exact = [
            not one.is_floating_point()
            for one in _listed(
                kind().fake(*self._arguments(kind, case, given)) if kind.parsed.returns else []
            )
        ]
        if exact and exact[at]:
            return torch.ones_like(found, dtype=torch.float64) / self.slack
        return found.abs().double().clamp(min=most)

    def _arguments(self, kind: type[DeclaredOp], case: Case, lists: Lists) -> list[Any]:
        return [*_values(kind.parsed.arguments, case["numbers"], lists)]


def _values(arguments: Iterable[Argument], numbers: dict[str, Any], lists: Lists) -> Iterator[Any]:
    for one in arguments:
        if not one.kind.is_tensor:
            yield numbers.get(one.name, one.default)
            continue
        listed = lists["result" if one.kind.written else one.name]
        yield listed if one.kind.listed else listed[0]


def _listed(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [*result]


def _is_known(kind: type[DeclaredOp]) -> bool:
    """Return whether calls of an op can be made from its declaration alone."""
    schema = kind.parsed
    whole = [name for name in kind.same if "." not in name]
    numbers = [one for one in schema.arguments if not one.kind.is_tensor]
    return (
        not schema.is_view
        and len(schema.written) < 2
        and all(one.name in whole for one in schema.tensors[1:])
        and all(
            one.name in numbers_of or one.default is not Parameter.empty
            for one in numbers
            for numbers_of in kind.examples
        )
    )
