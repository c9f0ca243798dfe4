"""The pages of docs/integrations, whose first Python block is a program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs/integrations"


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
