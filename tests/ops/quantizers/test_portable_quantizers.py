"""The Triton kernels of quantizers, in the interpreter; and nvcc takes the CUDA sources."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from triton_marks import needs_triton, passes

from accel.builders.convention import DECLARED, find
from accel.builders.lookup import find_builder
from accel.jit import acquire

NAMES = [name for name, target in DECLARED.items() if ".quantizers." in target]


@pytest.mark.parametrize("name", NAMES)
def test_they_are_found_by_the_ops_name(name: str) -> None:
    sources, triton = find(name, DECLARED[name], "cuda")
    assert [Path(one).name for one in sources] == [f"{name}.cu"]
    assert triton == f"accel.ops.quantizers.triton.{name}"


@pytest.mark.portable
@needs_triton
def test_interpreted() -> None:
    passes("test_quantizers.py")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_nvcc_compiles_it(session_cache: object, name: str) -> None:
    builder = find_builder(name, "accel.builders.cuda", "cuda")()
    assert acquire(builder.recipe().replace(targets=("9.0",))).path.is_file()
