"""What Triton compiles the kernels to."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from compile_portable import KERNELS, LISTS, compiled
from triton.backends.compiler import GPUTarget
from triton.compiler import make_backend
from triton.runtime.jit import create_function_from_signature

# Norms of lists are sums in float64, and so is the one factor that a program clips by.
OVER_ELEMENTS = [
    name
    for name, (kernel, _) in KERNELS.items()
    if "owners" in kernel.arg_names and name not in LISTS
]


def variant(kernel: Any, number: int) -> str:
    """What a kernel is compiled for when its integers have that value."""
    backend = make_backend(GPUTarget("cuda", 90, 32))
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    values = {
        name: number if name in {"seed", "count"} else 1.5
        for name, parameter in kernel.signature.parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    }
    return str(bind(**values, debug=False)[1])


@pytest.mark.parametrize("name", KERNELS)
def test_numbers_that_change_compile_nothing_anew(name: str) -> None:
    kernel = KERNELS[name][0]
    assert len({variant(kernel, number) for number in (1, 15, 16, 2**30)}) == 1


@pytest.mark.parametrize("name", OVER_ELEMENTS)
def test_elements_are_stepped_in_float32(name: str) -> None:
    """A float64 instruction costs as much as 64 others on most GPUs: there is one per tensor."""
    code = compiled(name, "cuda:90:32")[0].asm["ptx"]
    assert "atom." not in code
    if name != "lamb_moments":  # the norms are added up in float64
        assert ".f64" not in code
    else:
        assert "div.rn.f64" not in code
