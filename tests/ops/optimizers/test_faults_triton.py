"""Triton kernels: float64 once per tensor, norms in one order, one variant for all numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from triton_marks import needs_triton


@needs_triton
@pytest.mark.portable
@pytest.mark.parametrize("interpreted", ["1", "0"], ids=["interpreted", "compiled"])
def test_triton(interpreted: str, tmp_path: Path) -> None:
    name = "test_faults_order.py" if interpreted == "1" else "test_faults_compiled.py"
    variables = {"TRITON_INTERPRET": interpreted, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
        cwd=Path(__file__).parents[1] / "interpreted", env={**os.environ, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
