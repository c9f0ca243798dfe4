"""The Triton kernels over lists: in the interpreter, beside the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from triton_marks import needs_triton, passes

from accel.builders.convention import find


def test_they_are_found_by_the_ops_name() -> None:
    target = "accel.ops.lists.multi_tensor:MultiTensor"
    sources, triton = find("multi_tensor", target, "cuda")
    assert [Path(one).name for one in sources] == ["multi_tensor.cu"]
    assert triton == "accel.ops.lists.triton.multi_tensor"


@pytest.mark.portable
@needs_triton
def test_interpreted() -> None:
    passes("test_lists.py")
