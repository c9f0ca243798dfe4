"""The CPU kernels alone under sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("g++") is None or shutil.which("make") is None, reason="no g++")
def test_kernels_run_clean(tmp_path: Path) -> None:
    command = ["make", "--silent", "-C", str(ROOT / "tests/native"), f"BUILD={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ran clean" in done.stdout
