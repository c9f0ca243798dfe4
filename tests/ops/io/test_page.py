"""The program of the page about asynchronous I/O runs and prints what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accel.cli.main import main

PAGE = Path(__file__).parents[3] / "docs/async-io.md"


def test_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATOR", "cpu")
    program = PAGE.read_text().split("```python\n")[1].split("```")[0]
    exec(compile(program, str(PAGE), "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert "the file ends before that" in first
    assert second == "61 weights.bin 0 1336000"


def test_the_pages_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATOR", "cpu")
    command = PAGE.read_text().split("```sh\n")[1].split("```")[0].split()
    less = ("--mib", "16", "--total-gib", "0.2", "--depth", "8", "--threads", "1")
    with pytest.raises(SystemExit) as ended:
        main([*command[1:], *less])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    aio = json.loads(said[said.index("\n{") :])["aio"]
    assert aio == json.loads((tmp_path / "disk.json").read_text())["aio"]


def test_the_program_with_states_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    program = PAGE.read_text().split("```python\n")[2].split("```")[0]
    exec(compile(program, str(PAGE), "exec"), {})
    assert (tmp_path / "states/accel-swap-0.states").stat().st_size >= 2 * 4 * 1001000


def test_every_test_that_the_page_names_is_there() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    rows = PAGE.read_text().split("## Guarantees")[1]
    names = {word.strip("`,:()") for word in rows.split() if word.startswith("`test_")}
    missing = {name for name in names if not name.endswith(".py") and f"def {name}(" not in tests}
    assert missing == set()
