"""The Triton kernels over lists: in the interpreter, beside the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from triton_marks import needs_triton

from accel.builders.convention import find

HERE = Path(__file__).parents[1] / "interpreted"


def test_they_are_found_by_the_ops_name() -> None:
    target = "accel.ops.lists.multi_tensor:MultiTensor"
    sources, triton = find("multi_tensor", target, "cuda")
    assert [Path(one).name for one in sources] == ["multi_tensor.cu"]
    assert triton == "accel.ops.lists.triton.multi_tensor"


@pytest.mark.portable
@needs_triton
def test_interpreted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lists.py"],
        cwd=HERE,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
