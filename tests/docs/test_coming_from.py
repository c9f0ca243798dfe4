"""The pages for who comes from another project: every line runs, theirs where it is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/coming-from").glob("*.md"))
COMMANDS = "## Commands"
# They run on our ops, so that nothing of theirs is compiled.
RUN_THEIRS = """
import json, sys, warnings
warnings.simplefilter("ignore")
space = {}
exec(sys.argv[1], space)
for line in json.loads(sys.argv[2]):
    try:
        exec(line, space)
    except Exception as error:
        raise SystemExit(f"{line}: {type(error).__name__}: {error}")
print("all ran")
"""


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of a page's tables, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(cell: str) -> str:
    found = re.fullmatch(r"`([^`]+)`", cell)
    assert found, f"{cell!r}: expected one piece of code"
    return found[1]


def setup(page: str) -> str:
    return page.split("```python\n")[1].split("```", maxsplit=1)[0]


def python_rows(page: str) -> list[list[str]]:
    found = rows(page.partition(COMMANDS)[0])
    assert len(found) > 5
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_our_lines_run(page: Path) -> None:
    text = page.read_text()
    space: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(setup(text), space)
        for _, ours, _ in python_rows(text):
            exec(code(ours), space)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_their_lines_run(page: Path) -> None:
    if find_spec(page.stem) is None:
        pytest.skip(f"{page.stem} is not installed")
    text = page.read_text()
    lines = [code(theirs) for theirs, _, _ in python_rows(text)]
    done = subprocess.run(
        [sys.executable, "-c", RUN_THEIRS, setup(text), json.dumps(lines)],
        env={**os.environ, "ACCEL_DEEPSPEED": "1", "DS_ACCELERATOR": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "all ran" in done.stdout, done.stdout + done.stderr


def test_our_commands_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from accel.cli.main import main

    page = (ROOT / "docs/coming-from/deepspeed.md").read_text()
    for _, ours, _ in rows(page.partition(COMMANDS)[2]):
        name, *arguments = code(ours).split()
        assert name == "accel"
        if arguments[0] == "build":
            arguments += ["--out", str(tmp_path)]
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code in (0, None), capsys.readouterr()
    assert [*tmp_path.rglob("adam.so")]
