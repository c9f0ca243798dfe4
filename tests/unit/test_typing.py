"""Type checkers see through the calls that users write: right ones pass, wrong ones do not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from accel.builders.convention import DECLARED
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

op.multi_tensor_adm  # wrong
norms.multi_tensor_l3norm  # wrong
acc.create_op_builder("cpu_lion").load().lion_updat  # wrong
Adam8bit(params, sede=1)  # wrong
CPUAdam(params, rounding=3)  # wrong
CPULion(params, master_weights=True)  # wrong
FusedAdam(params, betas=0.9)  # wrong
"""


def test_mistakes_are_found_and_nothing_else(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(number) for number in re.findall(r"script\.py:(\d+): error", done.stdout)}
    lines = SCRIPT.splitlines()
    assert found == {at for at, line in enumerate(lines, 1) if "# wrong" in line}, done.stdout


def test_every_op_of_ours_has_its_type() -> None:
    text = (ROOT / "accel/contract/ops.py").read_text()
    typed = dict(re.findall(r'Literal\["(\w+)Builder", "(\w+)"\]', text))
    ours = {split(target)[1]: op for op, target in DECLARED.items()}
    # The functions of Utils are made from their declarations, and a type checker sees none.
    del ours["Utils"]
    assert typed == ours
