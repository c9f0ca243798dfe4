"""Processes that have the simulated device, one accelerator each for life."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

TORCH = tuple(int(part) for part in version("torch").split(".")[:2])


needs_torch = pytest.mark.skipif(
    TORCH < (2, 13), reason=f"the simulated device is written for torch 2.13; this is {TORCH}"
)


# Torch refuses an HPU beside CUDA when it is asked for the accelerator.
needs_room = pytest.mark.skipif(
    torch.version.cuda is not None, reason="this torch is built for CUDA, which leaves no HPU"
)


ROOT = Path(__file__).parents[2]


SIMULATED = ROOT / "tests/simulated"
INSIDE = SIMULATED / "inside"


Process = Callable[..., str]


def start(
    *command: str, python: Path | str = sys.executable, gaudi: bool = False, **variables: str
) -> str:
    """Run a Python process in the repository's root and return what it printed; 0 or fail.

    Its devices are ``hpu``, by a stand-in for Gaudi's software, or the stranger's ``sim``.
    """
    paths = [SIMULATED, SIMULATED / "gaudi", ROOT] if gaudi else [SIMULATED, ROOT]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))} | variables
    with subprocess.Popen(
        [str(python), *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, complaints = process.communicate(timeout=280)
        finally:
            # A launcher that is stopped leaves its workers.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"{command} gave {process.returncode}:\n{out}\n{complaints}"
    return out


def pytest_on(*paths: str | Path) -> tuple[str, ...]:
    """The command that runs test files inside another process, in their own session."""
    return ("-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, paths))
