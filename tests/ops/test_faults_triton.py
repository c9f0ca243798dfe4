"""Triton kernels: float64 once per tensor, norms in one order, one variant for all numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_portable import needs_triton


@needs_triton
@pytest.mark.portable
@pytest.mark.parametrize("interpreted", ["1", "0"], ids=["interpreted", "compiled"])
def test_triton(interpreted: str, tmp_path: Path) -> None:
    name = "check_faults_triton.py" if interpreted == "1" else "check_faults_compiled_triton.py"
    variables = {"TRITON_INTERPRET": interpreted, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
        cwd=Path(__file__).parent, env={**os.environ, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
