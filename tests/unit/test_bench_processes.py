"""The processes in which builds and loads are measured."""

from __future__ import annotations

import pytest

from accel.bench import processes


def test_a_measured_process_may_keep_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise a load of a checkout compiles every module of accel, which no installed one does.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = "import json, sys; print(json.dumps(float(sys.dont_write_bytecode)))"
    assert processes.result(processes.child(code)) == 0.0
