"""The exact meaning of ``random_ltd``: tokens chosen, put back, and the masks of kept tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from accel.testing.spec import BadCall, Case, Lists, OpSpec

_FUNCTIONS = ("token_sort_", "token_gather", "token_scatter_", "mask_gather_bert")
_SIZES = ((2, 3, 17, 5, 9), (1, 1, 1, 1, 1), (1, 2, 40, 16, 40), (2, 1, 8, 3, 0))
"""Layers, sequences, their length, channels, and tokens that are kept."""


class RandomLTDSpec(OpSpec):
    """All functions; the values that a call writes or returns are ``results``."""

    op = "random_ltd"
    written = ("results",)
    slack = 0.0

    def cases(self) -> Iterable[Case]:
        """Return each function with every element type, both orders of dimensions and odd sizes."""
        for at, sizes in enumerate(_SIZES):
            for dtype in ("float32", "bfloat16", "float16"):
                dtypes = {"values": dtype, "results": dtype, "indices": "int32", "masks": dtype}
                for function in (*_FUNCTIONS, "mask_gather_gpt"):
                    kinds = {**dtypes, **({"results": "int32"} if "sort" in function else {})}
                    for first in (True, False) if "token_" in function else (True,):
                        yield {
                            "function": function, "sizes": sizes, "batch_first": first,
                            "dtypes": kinds, "seed": at,
                        }  # fmt: skip

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return small integers, which every type holds, and tokens drawn without repetition."""
        layers, batch, length, channels, kept = case["sizes"]

        def numbers(*shape: int) -> Tensor:
            return torch.randint(
                -99, 99, shape, generator=generator, dtype=torch.float64, device="cpu"
            )

        def drawn() -> Tensor:
            return torch.randperm(length, generator=generator, dtype=torch.int64, device="cpu")[
                :kept
            ]

        rows = [torch.stack([drawn() for _ in range(batch)]) for _ in range(layers)]
        unsorted = torch.stack(rows).double()
        indices = unsorted.sort(-1).values
        first = case["batch_first"]
        all_tokens = numbers(*((batch, length) if first else (length, batch)), channels)
        some = numbers(*((batch, kept) if first else (kept, batch)), channels)
        results = {"token_sort_": [unsorted], "token_scatter_": [all_tokens.clone()]}
        return {
            "values": [all_tokens, some],
            "masks": [numbers(batch, 1, length, length)],
            "indices": [indices[0], indices],
            "results": results.get(case["function"], []),
        }

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return the results, token by token."""
        layers, batch, _, _, kept = case["sizes"]
        function, first = case["function"], case["batch_first"]
        tokens, some = given["values"]
        indices, (masks,) = given["indices"], given["masks"]
        if function == "token_sort_":
            return {"results": [indices[1]]}
        if function == "mask_gather_gpt":
            return {"results": [masks[:, :, :kept, :kept]]}
        if function == "mask_gather_bert":
            found = masks.new_zeros(layers, batch, 1, kept, kept)
            for layer in range(layers):
                for n in range(batch):
                    at = indices[1][layer, n].long()
                    found[layer, n, 0] = masks[n, 0][at][:, at]
            return {"results": [found]}
        here = tokens if first else tokens.transpose(0, 1)
        there = (some if first else some.transpose(0, 1)).clone()
        merged = here.clone()
        for n in range(batch):
            at = indices[0][n].long()
            merged[n][at] = there[n]
            there[n] = here[n][at]
        result = merged if function == "token_scatter_" else there
        return {"results": [result if first else result.transpose(0, 1)]}

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Call the function."""
        function, first = case["function"], case["batch_first"]
        kept = case["sizes"][4]
        called = getattr(op, function)
        if function == "token_sort_":
            found = called(tensors["results"][0], case["sizes"][2])
        elif function == "token_gather":
            found = called(tensors["values"][0], tensors["indices"][0], first)
        elif function == "token_scatter_":
            found = called(
                tensors["results"][0], tensors["values"][1], tensors["indices"][0], first
            )
        elif function == "mask_gather_bert":
            found = called(tensors["masks"][0], tensors["indices"][1])
        else:
            found = called(tensors["masks"][0], case.get("kept", kept))
        if function.endswith("_"):
            assert found is tensors["results"][0], f"{function} returns another tensor"
        tensors["results"] = [found]

    def bad(self) -> Iterable[BadCall]:
        """Return calls that must be refused."""
        ids = "unsorted_token_ids"
        for what, change in {
            "numbers that are floats": lambda ids: ids.float(),
            "two dimensions": lambda ids: ids[0],
        }.items():
            yield BadCall(what, ids, _changing("token_sort_", "results", 0, change))
        for function, name, argument, what, change in (
            ("token_gather", "indices", "sorted_indices", "another batch", lambda one: one[:1]),
            ("token_gather", "values", "activations", "one dimension", lambda one: one[0, 0]),
            (
                "mask_gather_bert",
                "masks",
                "dense_mask",
                "two heads",
                lambda one: one.repeat(1, 2, 1, 1),
            ),
        ):
            yield BadCall(what, argument, _changing(function, name, 0, change))
        yield BadCall("a length above the mask's", "truncated_seq_len",
                      lambda case, _: case.update(function="mask_gather_gpt", kept=18))  # fmt: skip

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return zeros: numbers are moved, not computed."""
        return torch.zeros_like(expected[name][at])


def _changing(function: str, name: str, at: int, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a change of one tensor in a call of a function."""

    def changed(case: dict[str, Any], tensors: Lists) -> None:
        case["function"] = function
        tensors[name][at] = change(tensors[name][at])

    return changed
