"""Marks of tests that need Triton, and how tests of its kernels are started."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed: the extra portable-test"
)


def passes(name: str, interpreted: str = "1", **variables: str) -> None:
    """Assert that a file of ``ops/interpreted`` passes in a process of its own.

    Triton chooses the interpreter at its first import, and torch may have imported it here.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
        cwd=Path(__file__).parents[1] / "ops/interpreted",
        env={**os.environ, "TRITON_INTERPRET": interpreted, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
