"""What a machine can do to a load becomes the next rung with its reason; only mistakes raise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from engine_tools import REPOSITORY, Workshop

# A frozen program starts itself where it means to start Python.
APP = """#!/bin/sh
echo started >> '{folder}/starts'
[ "$(wc -l < '{folder}/starts')" -gt 3 ] && exit 3
exec '{python}' '{folder}/main.py' "$@"
"""
MAIN = """
import sys
from pathlib import Path
sys.executable = {executable!r}
{more}
from accel import jit
recipe = jit.Recipe("op", "cpu", (Path({source!r}),), (Path({include!r}),))
print(jit.acquire(recipe).handle.value())
"""


def run_app(workshop: Workshop, executable: str | None, more: str) -> str:
    """Run a program whose `sys.executable` is that, and return what its library says."""
    folder = workshop.folder / "my app"
    folder.mkdir()
    app = folder / "app"
    app.write_text(APP.format(folder=folder, python=sys.executable))
    app.chmod(0o755)
    facts = {"source": str(workshop.source), "include": str(workshop.include), "more": more}
    facts["executable"] = str(app) if executable == "itself" else executable
    (folder / "main.py").write_text(MAIN.format(**facts))
    environment = {**os.environ, **workshop.environment, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([str(app)], capture_output=True, text=True, timeout=30, env=environment)
    assert (folder / "starts").read_text() == "started\n"
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("executable", "more"),
    [
        ("itself", "sys.frozen = True"),
        ("itself", ""),
        ("", ""),
        (None, ""),
        ("/nonexistent/python", ""),
        ("/bin/true", ""),
    ],
    ids=["frozen", "embedded", "empty", "none", "gone", "no Python"],
)
def test_a_build_starts_no_python(workshop: Workshop, executable: str | None, more: str) -> None:
    assert run_app(workshop, executable, more) == "7\n"
