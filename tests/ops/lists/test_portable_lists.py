"""The Triton kernels over lists: in the interpreter, beside the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from accel.builders.convention import find

HERE = Path(__file__).parents[1]


def test_they_are_found_by_the_ops_name() -> None:
    target = "accel.ops.lists.multi_tensor:MultiTensor"
    sources, triton = find("multi_tensor", target, "cuda")
    assert [Path(one).name for one in sources] == ["multi_tensor.cu"]
    assert triton == "accel.ops.lists.triton.multi_tensor"


@pytest.mark.portable
@pytest.mark.skipif(find_spec("triton") is None, reason="the extra portable-test")
def test_interpreted() -> None:
    done = subprocess.run(
        [sys.executable, "check_lists_portable.py"],
        cwd=HERE,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
