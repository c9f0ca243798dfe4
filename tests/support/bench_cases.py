"""`accel bench` run in this process, on the CPU."""

from __future__ import annotations

import pytest

from accel.cli.main import main


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATOR", "cpu")


def run(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    said = capfd.readouterr()
    assert ended.value.code == code, said
    return said.out if code == 0 else said.err
