"""What the tests of frameworks share: skipping without one, and running its page's program."""

from __future__ import annotations

import os
import re
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


def cells(page: str) -> list[str]:
    """Return all of a page's blocks of Python, each a cell of a notebook."""
    return re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)


def program(page: str) -> str:
    """Return a page's program, which is its first block of Python."""
    return cells(page)[0]


def start(folder: Path, *command: str, timeout: float = 280, **variables: str) -> str:
    """Run Python with arguments in a folder and return what it prints; 0 or fail."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=folder,
        env=os.environ | {"ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-6000:]
    return done.stdout


def run(page: str, folder: Path, timeout: float = 280, **variables: str) -> str:
    """Run a page's program in a process of its own and return what it prints; 0 or fail."""
    return start(folder, "-c", program(page), timeout=timeout, **variables)


def run_two(page: str, folder: Path, *options: str) -> str:
    """Run a page's program as ``train.py`` in two processes of torchrun; 0 or fail."""
    (folder / "train.py").write_text(program(page))
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    return start(folder, *launcher, *(options or ("--standalone",)), "train.py")
