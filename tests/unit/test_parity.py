"""What torch.accelerator and DeepSpeed's accelerator have, ours answers."""

import inspect
import json
import os
import subprocess
import sys

import pytest
import torch

from accel.base import Accelerator
from accel.cpu import CPUAccelerator
from accel.host.graph import HostGraph

PRINT_DEEPSPEED = """
import contextlib, inspect, io, json, os, sys
with contextlib.redirect_stdout(io.StringIO()):
    from deepspeed.accelerator.abstract_accelerator import DeepSpeedAccelerator as theirs
members = {}
for name in dir(theirs):
    if name.startswith("_"):
        continue
    member = getattr(theirs, name)
    members[name] = None
    if inspect.isfunction(member):
        parameters = [*inspect.signature(member).parameters.values()][1:]
        members[name] = [(one.name, str(one.kind)) for one in parameters]
json.dump(members, sys.stdout)
"""


def test_everything_that_torch_accelerator_has():
    assert [name for name in torch.accelerator.__all__ if not hasattr(Accelerator, name)] == []


def test_the_graph_has_what_torchs_graph_has():
    if not hasattr(torch.accelerator, "Graph"):
        pytest.skip(f"torch {torch.__version__} has no torch.accelerator.Graph; 2.13 has")
    theirs = torch.accelerator.Graph
    names = [name for name, value in vars(theirs).items() if inspect.isfunction(value)]
    assert len(names) > 8
    assert [name for name in names if not hasattr(HostGraph, name)] == []
    assert [*inspect.signature(theirs).parameters] == [*inspect.signature(HostGraph).parameters]


@pytest.mark.parametrize("name", torch.accelerator.__all__)
def test_a_call_without_arguments_answers_in_torchs_type(name):
    ours = getattr(CPUAccelerator(), name)
    theirs = inspect.signature(getattr(torch.accelerator, name))
    needed = [one for one in theirs.parameters.values() if one.default is one.empty]
    # The pair of numbers is torch.cuda's; torch.accelerator has a dict by this name.
    if needed or name in {"Graph", "get_device_capability"}:
        return
    answer = ours()
    kinds = {"int": int, "bool": bool, "None": type(None), "tuple[int, int]": tuple}
    said = str(theirs.return_annotation).replace("<class '", "").replace("'>", "")
    if said in kinds:
        assert type(answer) is kinds[said], (name, answer)


def test_everything_that_deepspeeds_accelerator_has():
    pytest.importorskip("deepspeed")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRINT_DEEPSPEED],
        env=os.environ | {"DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout[done.stdout.index("{") :])
    assert len(theirs) > 70
    missing, other = [], []
    for name, parameters in theirs.items():
        ours = getattr(Accelerator, name, None)
        if ours is None:
            missing.append(name)
        elif parameters is not None and inspect.isfunction(ours):
            mine = [*inspect.signature(ours).parameters.values()][1:]
            found = [(one.name, str(one.kind)) for one in mine[: len(parameters)]]
            if found != [tuple(one) for one in parameters]:
                other.append((name, found, parameters))
    assert missing == []
    assert other == []
