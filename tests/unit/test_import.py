"""Nothing happens at import: no torch, no probe, no file, no subprocess, no print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WATCH = """
import json, os, resource, sys
before = dict(os.environ)
events = []
def hook(event, arguments):
    if event in {{"subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.exec",
                  "os.putenv",
                  "os.unsetenv", "os.mkdir", "os.rename", "os.remove"}}:
        events.append([event, repr(arguments)])
    # Importing ctypes opens the running program itself, which loads nothing.
    if event == "ctypes.dlopen" and arguments != (None,):
        events.append([event, repr(arguments)])
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        events.append([event, repr(arguments)])
sys.addaudithook(hook)
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
start = used()
{code}
took = used() - start
json.dump({{"events": events, "torch": "torch" in sys.modules, "seconds": took,
           "environment": dict(os.environ) == before, "modules": len(sys.modules)}}, sys.stderr)
"""


def watched(code: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCH.format(code=code)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/nonexistent", "PYTHONPATH": str(ROOT), "ACCELERATOR": "cpu"},
        check=True,
    )
    assert done.stdout == ""
    facts: dict[str, object] = json.loads(done.stderr)
    return facts


@pytest.mark.parametrize(
    "code",
    [
        "import accel; accel.get_accelerator()",
        "import accel; assert accel.get_accelerator().device_name() == 'cpu'",
        "import op_builder",
        "import op_builder; op_builder.__op_builders__",
        "import op_builder; op_builder.builder_closure('FusedAdamBuilder')",
        "import accel.jit, accel.builders.cpu, accel.builders.cuda, accel.cuda, accel.xpu",
    ],
)
def test_an_import_does_nothing(code: str) -> None:
    facts = watched(code)
    assert facts["events"] == []
    assert facts["torch"] is False
    assert facts["environment"] is True


def test_the_watch_sees_what_it_looks_for() -> None:
    facts = watched(
        "import subprocess; subprocess.run(['/bin/true']); import os; os.putenv('a', 'b')"
    )
    assert {event for event, _ in facts["events"]} >= {"subprocess.Popen", "os.putenv"}  # type: ignore[attr-defined]


def test_every_public_name_resolves() -> None:
    import accel

    for name in accel.__all__:
        assert getattr(accel, name) is not None
        assert name in dir(accel)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = accel.nonsense
