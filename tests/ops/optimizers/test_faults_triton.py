"""Triton kernels: float64 once per tensor, norms in one order, one variant for all numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from triton_marks import needs_triton, passes


@needs_triton
@pytest.mark.portable
@pytest.mark.parametrize("interpreted", ["1", "0"], ids=["interpreted", "compiled"])
def test_triton(interpreted: str, tmp_path: Path) -> None:
    name = "test_faults_order.py" if interpreted == "1" else "test_faults_compiled.py"
    passes(name, interpreted, TRITON_CACHE_DIR=str(tmp_path))
