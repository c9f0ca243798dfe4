"""Names of devices that people use elsewhere, archives, and backends that torch does not know."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest
import torch

import accel
from accel.errors import BackendUnavailable, UnknownBackend, Unsupported

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpu", "torch calls NVIDIA and AMD GPUs 'cuda'.* Use 'cuda'"),
        ("GPU", "Use 'cuda'"),
        ("gpu:0", "Use 'cuda'"),
        ("hip", "torch calls AMD GPUs 'cuda', too. Use 'cuda'"),
        ("rocm", "torch calls AMD GPUs 'cuda', too. Use 'cuda'"),
        ("gaudi", "Use 'hpu'"),
        ("tpu", "No backend for TPUs is installed"),
        ("CUDA", "Did you mean 'cuda'"),
        ("cuda:0", r"names one device\. ACCELERATOR takes the kind \('cuda'\)"),
    ],
)
def test_a_name_from_elsewhere_leads_to_the_backend(
    text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATOR", text)
    with pytest.raises(UnknownBackend, match=says) as caught:
        accel.get_accelerator()
    assert "'xpu'?" not in str(caught.value) and "'cpu'?" not in str(caught.value)


@pytest.mark.parametrize("text", ["auto", "AUTO", "Auto", ""])
def test_auto_detects_however_it_is_written(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detected = accel.get_accelerator()
    accel.set_accelerator(None)
    monkeypatch.setenv("ACCELERATOR", text)
    assert accel.get_accelerator() is detected
    from accel.cli.report import chosen

    assert chosen() == (detected.name, "detected")
    accel.set_accelerator(text or "auto")
    assert accel.get_accelerator() is detected


def test_a_call_is_not_told_about_the_variable() -> None:
    with pytest.raises(UnknownBackend, match=r"set_accelerator takes the kind \('cuda'\)"):
        accel.set_accelerator("cuda:1")
    with pytest.raises(BackendUnavailable, match=r"Or ask for 'auto'") as caught:
        accel.set_accelerator("hpu")
    assert "ACCELERATOR" not in str(caught.value)
    with pytest.raises(UnknownBackend, match=r"device type 'gpu'.* Use 'cuda'"):
        accel.accelerator_for("gpu:0")


class Quantum(accel.Accelerator):
    """A device that is there and that torch has never heard of."""

    name = "quantum"

    def is_available(self) -> bool:
        return True


class Gone(Quantum):
    """The same, without a device."""

    def is_available(self) -> bool:
        return False


ASKED = {
    "create_graph": lambda acc: acc.create_graph(),
    "capture_to_graph": lambda acc: acc.capture_to_graph(object()),
    "Stream": lambda acc: acc.Stream,
    "Event": lambda acc: acc.Event,
    "current_stream": lambda acc: acc.current_stream(),
    "synchronize": lambda acc: acc.synchronize(),
    "memory_allocated": lambda acc: acc.memory_allocated(),
    "get_rng_state": lambda acc: acc.get_rng_state(),
    "device": lambda acc: acc.device(),
    "pin_memory": lambda acc: acc.pin_memory(torch.ones(1)),
}


@pytest.mark.parametrize("member", ASKED)
def test_a_device_that_torch_does_not_know_names_a_way_out(member: str) -> None:
    with pytest.raises(Unsupported, match=rf"quantum has no {member}: torch .* has no module") as e:
        ASKED[member](Quantum())
    assert f"Override {member} in Quantum" in str(e.value) and "device_type" in str(e.value)
    with pytest.raises(BackendUnavailable, match="no quantum device can be used"):
        ASKED[member](Gone())


APP = """
import warnings
import torch, accel
accel.set_accelerator("cpu")
builder = accel.get_accelerator().create_op_builder("FusedAdamBuilder")
for rung, probe in builder.rungs():
    print(rung, probe)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    op = builder.load()
print(op.implementation, len(seen), seen[0].message)
parameter = torch.nn.Parameter(torch.ones(3))
parameter.grad = torch.ones(3)
accel.optim.FusedAdam([parameter], lr=0.1).step()
print(parameter.tolist())
"""


def test_a_zipapp_takes_the_reference_and_says_why(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for package in ("accel", "op_builder"):
        shutil.copytree(ROOT / package, source / package)
    shutil.copytree(ROOT / "csrc", source / "accel" / "_csrc")
    (source / "__main__.py").write_text(APP)
    archive = tmp_path / "app.pyz"
    zipapp.create_archive(source, archive)
    variables = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(archive)], capture_output=True, text=True, env=variables, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    why = f"its sources are in the archive {archive}, and compilers read files only"
    lines = done.stdout.splitlines()
    assert lines[0].startswith("prebuilt ") and why in lines[0]
    assert lines[1].startswith("jit ") and why in lines[1]
    assert any(line.startswith("reference 1 ") and why in line for line in lines)
    assert "reinstall the package" not in done.stdout
    assert lines[-1].startswith("[0.89999")
