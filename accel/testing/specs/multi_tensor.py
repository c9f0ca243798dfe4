"""The exact meaning of ``multi_tensor``: every function over lists, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from accel.testing.spec import BadCall, Case, Lists, OpSpec

_SHAPES = [(), (0,), (1,), (7, 5), (33,), (8193,), (2, 4100)]
_CHUNK_SIZE = 65536
_NORMS = ("multi_tensor_l2norm", "multi_tensor_l2norm_mp", "multi_tensor_unscale_l2norm")
_TYPES = [
    {"inputs": "float32", "outputs": "float32", "ys": "float32"},
    {"inputs": "bfloat16", "outputs": "float32", "ys": "bfloat16"},
    {"inputs": "float16", "outputs": "bfloat16", "ys": "float32"},
]


class MultiTensorSpec(OpSpec):
    """All functions; the written lists are ``outputs``, ``results`` and ``noop_flag``."""

    op = "multi_tensor"
    written = ("outputs", "results", "noop_flag")

    def cases(self) -> Iterable[Case]:
        """Return each function with several types, flags set before, and infinities."""
        for at, types in enumerate(_TYPES):
            dtypes = {**types, "noop_flag": "int32"}
            common = {"dtypes": dtypes, "special": at > 0, "seed": at}
            yield {"function": "multi_tensor_scale", "numbers": [0.3], **common}
            for check in (-1, 0, 1)[min(at, 1) :]:
                yield {"function": "multi_tensor_axpby", "numbers": [0.75, -1.7, check], **common}
            for function in _NORMS:
                for each in (False, True)[min(at, 1) :]:
                    yield {"function": function, "numbers": [each], "flag": at % 2, **common}
            for max_norm in (1.0, 1e9)[min(at, 1) :]:
                yield {"function": "multi_tensor_clip", "numbers": [max_norm], **common}

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return normal numbers of all shapes; the last input of some cases has an infinity."""

        def numbers() -> list[Tensor]:
            return [
                torch.randn(one, generator=generator, dtype=torch.float64, device="cpu")
                for one in _SHAPES
            ]

        lists = {"inputs": numbers(), "ys": numbers(), "outputs": numbers(), "results": []}
        if case["special"]:
            lists["inputs"][-1][1, 17] = -torch.inf
        if case["function"] == "multi_tensor_clip":
            lists["outputs"] = [one.clone() for one in lists["inputs"]]
        flag = torch.full((1,), case.get("flag", 0), dtype=torch.float64, device="cpu")
        return {**lists, "noop_flag": [flag], "inv_scale": [flag * 0 - 0.125]}

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return the written values, by the formulas."""
        function, numbers = case["function"], case["numbers"]
        outputs, results = given["outputs"], []
        checked = [given["inputs"], given["ys"]]
        if function == "multi_tensor_scale":
            outputs, checked = [numbers[0] * x for x in given["inputs"]], checked[:1]
        elif function == "multi_tensor_axpby":
            a, b, which = numbers
            pairs = zip(given["inputs"], given["ys"], strict=True)
            outputs = [a * x + b * y for x, y in pairs]
            checked = checked if which < 0 else [checked[which]]
        elif function == "multi_tensor_clip":
            total = _norm(outputs)
            factor = torch.clamp(numbers[0] / (total + 1e-6), max=1.0)
            outputs, results, checked = [x * factor for x in outputs], [total], []
        else:
            results, checked = self._norms(case, given), checked[:1]
            skipped = function == "multi_tensor_l2norm_mp" and bool(given["noop_flag"][0])
            if skipped:
                results = [one * 0 for one in map(torch.nan_to_num, results)]
        finite = all(bool(one.isfinite().all()) for listed in checked for one in listed)
        flag = given["noop_flag"][0].clamp(min=0.0 if finite else 1.0)
        return {"outputs": outputs, "results": results, "noop_flag": [flag]}

    def _norms(self, case: Case, given: Lists) -> list[Tensor]:
        by = given["inv_scale"][0].abs() if "unscale" in case["function"] else 1.0
        each = [_norm([one]).reshape(1) for one in given["inputs"]]
        return [_norm(given["inputs"]).reshape(1) * by,
                (torch.cat(each) * by)[: len(each) if case["numbers"][0] else 0]]  # fmt: skip

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Call the function by position."""
        function = getattr(op, case["function"])
        flag, numbers = tensors["noop_flag"][0], case["numbers"]
        if case["function"] == "multi_tensor_clip":
            tensors["results"] = [function(tensors["outputs"], *numbers)]
            return
        first = (case.get("chunk_size", _CHUNK_SIZE), flag)
        if case["function"] in _NORMS:
            factor = (tensors["inv_scale"][0],) if "unscale" in case["function"] else ()
            tensors["results"] = [*function(*first, [tensors["inputs"]], *factor, *numbers)]
            return
        names = ("inputs", "outputs") if len(numbers) == 1 else ("inputs", "ys", "outputs")
        function(*first, [tensors[name] for name in names], *numbers)

    def bad(self) -> Iterator[BadCall]:
        """Return calls that must be refused."""
        yield BadCall("no chunk", "chunk_size", lambda case, _: case.update(chunk_size=0))
        yield BadCall("an output too few", "outputs", lambda _, lists: lists.update(
            outputs=lists["outputs"][:-1]))  # fmt: skip
        yield BadCall("an input of another shape", "outputs", lambda _, lists: lists.update(
            inputs=[lists["inputs"][4], *lists["inputs"][1:]]))  # fmt: skip
        yield BadCall("a flag of floats", "noop_flag", lambda _, lists: lists.update(
            noop_flag=[lists["noop_flag"][0].float()]))  # fmt: skip
        yield BadCall("a flag of two elements", "noop_flag", lambda _, lists: lists.update(
            noop_flag=[lists["noop_flag"][0].repeat(2)]))  # fmt: skip
        yield BadCall("an output that is two", "outputs", lambda _, lists: lists.update(
            outputs=[*lists["outputs"][:-1], lists["outputs"][-1][:1].expand(2, -1)]))  # fmt: skip
        yield BadCall("doubles", "inputs", lambda _, lists: lists.update(
            inputs=[one.double() for one in lists["inputs"]]))  # fmt: skip

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the size of the results, and of their terms."""
        found = expected[name][at].abs().nan_to_num()
        if case["function"] == "multi_tensor_axpby" and name == "outputs":
            a, b, _ = case["numbers"]
            found = (a * given["inputs"][at]).abs() + (b * given["ys"][at]).abs()
        return found if name != "noop_flag" else found * 0


def _norm(tensors: list[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.cat([one.flatten() for one in tensors]))
    return norm
