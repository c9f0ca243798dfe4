"""The Triton kernels of quantizers, in the interpreter; and nvcc takes the CUDA sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from triton_marks import needs_triton

from accel.builders.convention import DECLARED, find
from accel.builders.lookup import find_builder
from accel.jit import acquire

HERE = Path(__file__).parents[1] / "interpreted"
NAMES = [name for name, target in DECLARED.items() if ".quantizers." in target]


@pytest.mark.parametrize("name", NAMES)
def test_they_are_found_by_the_ops_name(name: str) -> None:
    sources, triton = find(name, DECLARED[name], "cuda")
    assert [Path(one).name for one in sources] == [f"{name}.cu"]
    assert triton == f"accel.ops.quantizers.triton.{name}"


@pytest.mark.portable
@needs_triton
def test_interpreted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_quantizers.py"],
        cwd=HERE,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_nvcc_compiles_it(session_cache: object, name: str) -> None:
    builder = find_builder(name, "accel.builders.cuda", "cuda")()
    assert acquire(builder.recipe().replace(targets=("9.0",))).path.is_file()
