"""Type checkers see through the calls that users write: right ones pass, wrong ones do not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import torch

import accel
from accel.builders.convention import DECLARED
from accel.contract.protocols import DeviceEvent, DeviceStream
from accel.targets import split

ROOT = Path(__file__).parents[2]
SCRIPT = """
import torch
import accel
from accel.optim import Adam8bit, CPUAdam, CPULion, FusedAdam

params = [torch.nn.Parameter(torch.ones(3))]
acc = accel.get_accelerator()
op = acc.get_op_builder("FusedAdamBuilder")().load()
norms = acc.create_op_builder("multi_tensor").load()
anything = acc.get_op_builder("SomebodysBuilder")().load().whatever
print(op.multi_tensor_adam, norms.multi_tensor_l2norm, anything)
CPUAdam(params, maximize=True, state_dtype="bfloat16", master_weights=False)
Adam8bit(params, seed=1)
side, start, end = acc.Stream(priority=1), acc.Event(enable_timing=True), acc.Event()
with acc.stream(side):
    start.record()
    side.wait_stream(acc.current_stream())
    side.wait_event(acc.default_stream().record_event(end))
seconds: float = start.elapsed_time(end) / 1000
done: bool = side.query() and end.query()
end.wait(side)
end.synchronize()

op.multi_tensor_adm  # wrong
norms.multi_tensor_l3norm  # wrong
acc.create_op_builder("cpu_lion").load().lion_updat  # wrong
Adam8bit(params, sede=1)  # wrong
CPUAdam(params, rounding=3)  # wrong
CPULion(params, master_weights=True)  # wrong
FusedAdam(params, betas=0.9)  # wrong
acc.Stream().synchronise()  # wrong
acc.Stream(prio=1)  # wrong
acc.current_stream().cuda_stream  # wrong
acc.default_stream().elapsed_time(start)  # wrong
acc.Event(timing=True)  # wrong
start.elapsed_time()  # wrong
late: int = start.elapsed_time(end)  # wrong
"""


# What torch and DeepSpeed do not declare, so that no program can use it under --strict.
UNDECLARED = re.compile(
    r'untyped function "(backward|split)"|attribute "HashStore"'
    r'|analyzing "deepspeed|module named "(deepspeed|matplotlib)'
)


def strict(*files: Path) -> str:
    """Return what mypy says of files that a user could have written."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1) and "source file" in done.stdout, done.stdout + done.stderr
    return done.stdout


def test_mistakes_are_found_and_nothing_else(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    said = strict(script, *sorted((ROOT / "examples").glob("*.py")))
    found = {int(number) for number in re.findall(r"script\.py:(\d+): error", said)}
    lines = SCRIPT.splitlines()
    assert found == {at for at, line in enumerate(lines, 1) if "# wrong" in line}, said
    others = [line for line in said.splitlines() if re.match(r"examples/.*: error", line)]
    assert [line for line in others if not UNDECLARED.search(line)] == []


def test_the_backend_of_the_documentation_passes() -> None:
    said = strict(ROOT / "examples/third_party_backend/accel_sim")
    assert said.startswith("Success"), said


def test_every_op_of_ours_has_its_type() -> None:
    text = (ROOT / "accel/contract/ops.py").read_text()
    typed = dict(re.findall(r'Literal\["(\w+)Builder", "(\w+)"\]', text))
    ours = {split(target)[1]: op for op, target in DECLARED.items()}
    # The functions of Utils are made from their declarations, and a type checker sees none.
    del ours["Utils"]
    assert typed == ours


def test_streams_and_events_have_what_their_protocols_say() -> None:
    host = accel.accelerator_for("cpu")
    assert isinstance(host.Stream(), DeviceStream)
    assert isinstance(host.Event(), DeviceEvent)
    for kind, protocol in ((torch.Stream, DeviceStream), (torch.Event, DeviceEvent)):
        members = {name for name in vars(protocol) if not name.startswith("_")}
        assert members - {*dir(kind)} == set()
