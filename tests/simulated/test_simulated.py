"""The simulated device, and on it: the HPU strategy, a stranger's package, training, late streams.

A process has one accelerator for life, so every test here starts processes of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from device_processes import (
    INSIDE,
    ROOT,
    SIMULATED,
    Process,
    needs_room,
    needs_torch,
    pytest_on,
    start,
)

pytestmark = needs_torch


EXAMPLE = ROOT / "examples/third_party_backend"
SHORT_RUN = "--steps 12 --batch 4 --context 32 --width 32 --depth 1 --heads 2 --eval-every 12"
UNTRAINED = 8.0  # bits per byte


@pytest.mark.parametrize("name", ["sim", pytest.param("hpu", marks=needs_room)])
def test_the_device(process: Process, name: str) -> None:
    # Compiled and seen once is enough: the slow test is about torch, not about the name.
    chosen = ("-k", "not compiles") if name == "hpu" else ()
    process(*pytest_on(INSIDE / "test_device.py", *chosen), gaudi=name == "hpu", SIMULATED=name)


def test_offloading(process: Process) -> None:
    process(*pytest_on(INSIDE / "test_offload.py"))


@needs_room
@pytest.mark.parametrize("lazy", ["0", "1"], ids=["eager", "lazy"])
def test_the_hpu_strategy(process: Process, lazy: str) -> None:
    # In lazy mode, what differs there.
    chosen = ("-k", "graph or capture or step") if lazy == "1" else ()
    told = process(*pytest_on(INSIDE / "test_hpu.py", *chosen), gaudi=True, PT_HPU_LAZY_MODE=lazy)
    assert "HPUAccelerator" in told


@pytest.mark.soak
@pytest.mark.parametrize("name", ["sim", pytest.param("hpu", marks=needs_room)])
def test_every_op_on_the_device(process: Process, name: str) -> None:
    process(*pytest_on(INSIDE / "test_ops.py"), gaudi=name == "hpu", SIMULATED=name)


BLOCK = re.compile(
    r"`my_backend/(?P<path>[^`]+)`(?P<how>, at its end|, after `(?P<line>[^`]+)`)?:\n\n"
    r"```\w+\n(?P<text>.*?\n)```",
    re.DOTALL,
)


def follow(folder: Path) -> None:
    """Write what the two pages of the documentation tell to write."""
    for page in ("add-a-backend.md", "add-an-op.md"):
        for block in BLOCK.finditer((ROOT / "docs" / page).read_text()):
            file = folder / block["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            if block["line"]:
                before, line, after = file.read_text().partition(block["line"] + "\n")
                assert line, f"{page}: {block['path']} has no line {block['line']}"
                file.write_text(before + line + block["text"] + after)
            elif block["how"]:
                file.write_text(file.read_text() + "\n" + block["text"])
            else:
                file.write_text(block["text"])
    shutil.copy(SIMULATED / "simulator/csrc/sim.h", folder / "accel_sim/csrc")


def test_the_documentation_makes_the_example(tmp_path: Path) -> None:
    follow(tmp_path)
    made, example = (
        {
            file.relative_to(root).as_posix(): file.read_text()
            for file in root.rglob("*")
            if file.is_file() and file.suffix in {".py", ".toml", ".cpp", ".h"}
        }
        for root in (tmp_path, EXAMPLE)
    )
    assert made == example


@pytest.fixture(scope="session")
def stranger(simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment's Python, with the package that the documentation makes."""
    folder = tmp_path_factory.mktemp("stranger")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env/bin/python"
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # Torch and the rest come from this environment; only the package itself is installed.
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(here)]
    (Path(site) / "parent.pth").write_text("\n".join(lines) + "\n")
    follow(folder / "source")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet")
    start("-m", "pip", "install", *options, str(folder / "source"), python=python)
    return python


def test_a_removed_synchronisation_shows(process: Process, stranger: Path) -> None:
    process(*pytest_on(INSIDE / "test_synchronisation.py"), python=stranger)


def test_the_strangers_own_tests(process: Process, stranger: Path) -> None:
    told = process(*pytest_on(EXAMPLE / "tests"), python=stranger)
    assert "SimAccelerator" in told


def test_the_stranger_is_found_by_name(process: Process, stranger: Path) -> None:
    ask = (
        "import json, accel, op_builder; report = accel.candidates();"
        "print(json.dumps({'chosen': accel.get_accelerator().name,"
        " 'candidates': [[one.name, one.accepted, one.origin] for one in report],"
        " 'named': 'MovingAverageBuilder' in op_builder.__op_builders__,"
        " 'own': op_builder.MovingAverageBuilder.__module__}));"
        "accel.set_accelerator('cpu');"
        "print(op_builder.MovingAverageBuilder().load().implementation)"
    )
    first, second = process("-c", ask, python=stranger, ACCELERATOR="sim").splitlines()
    told = json.loads(first)
    assert told["chosen"] == "sim" and told["named"]
    assert ["sim", True, "package accel-sim"] in told["candidates"]
    assert told["own"] == "accel_sim.builders"
    assert second == "reference"


def held_out(said: str) -> float:
    """The held-out loss after the last step, in bits per byte."""
    line = next(line for line in said.splitlines() if line.startswith("held out"))
    return float(line.split()[2])


@needs_room
def test_the_hpu_backend_trains(process: Process, tmp_path: Path) -> None:
    command = ("examples/train.py", *SHORT_RUN.split(), "--out", str(tmp_path))
    said = process(*command, gaudi=True, ACCELERATOR="hpu")
    assert "hpu (GAUDI2): ACCELERATOR=hpu" in said
    assert held_out(said) < UNTRAINED - 0.3


@pytest.mark.parametrize("options", ["", pytest.param("--fsdp", marks=pytest.mark.soak)])
def test_the_strangers_backend_trains(
    process: Process, stranger: Path, tmp_path: Path, options: str
) -> None:
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run = ("examples/train.py", *SHORT_RUN.split(), *options.split(), "--out", str(tmp_path))
    said = process(*command, *run, python=stranger, ACCELERATOR="sim", OMP_NUM_THREADS="1")
    assert "over simccl" in said
    assert held_out(said) < UNTRAINED - 0.3
