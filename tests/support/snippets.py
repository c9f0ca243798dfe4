"""What the tests of frameworks share: skipping without one, and running its page's program."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).parents[2] / "docs/integrations"


def need(package: str) -> Any:
    """Return a framework's package; skip without one, fail if it is broken."""
    reason = f"needs {package}: pip install '.[integrations]'"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(package, reason=reason, exc_type=ModuleNotFoundError)


def run(page: str, folder: Path) -> str:
    """Run a page's program in a process of its own and return what it prints; 0 or fail."""
    snippet = (PAGES / page).read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", snippet],
        cwd=folder,
        env=os.environ | {"ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
