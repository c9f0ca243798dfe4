"""Faults of first contact: README typed as it stands, the command's answers, make's."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from accel.errors import UnknownOp, suggestion

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
# Commands of README that need what this machine may lack.
NVCC = "accel build all --accelerator cuda"


def section(title: str) -> list[tuple[str, str]]:
    """The fenced blocks of a section of README, each with its language."""
    text = README.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return BLOCK.findall(text)


def start(*command: str, folder: Path, code: int = 0, **variables: str) -> str:
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={"ACCELERATOR": "cpu", **os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == code, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_readmes_use_runs(cache_dir: Path, tmp_path: Path) -> None:
    ((kind, text),) = section("Use")
    assert kind == "python"
    assert start("-c", text, folder=tmp_path).startswith("cpu ")


def test_readmes_backend_passes_its_own_proof(cache_dir: Path, tmp_path: Path) -> None:
    backend, entry, register, proof = section("Add a backend")
    assert [kind for kind, _ in (backend, entry, register, proof)] == [
        "python",
        "toml",
        "python",
        "python",
    ]
    (tmp_path / "my_npu.py").write_text(backend[1])
    (tmp_path / "test_npu.py").write_text(proof[1])
    assert re.findall(r'npu = "(\S+)"', entry[1]) == ["my_npu:NPU"]
    said = start("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_npu.py", folder=tmp_path)
    assert "passed" in said and "failed" not in said
    script = f"import accel\n{register[1]}\nprint(*[one.name for one in accel.candidates()])"
    assert "npu" in start("-c", script, folder=tmp_path).split()
    assert "PASS" in start("-m", "accel", "conformance", "my_npu:NPU", folder=tmp_path)


def test_readmes_op_runs_and_finds_its_builder(cache_dir: Path, tmp_path: Path) -> None:
    op, use, builder = (text for _, text in section("Add an op"))
    (tmp_path / "my_pkg").mkdir()
    (tmp_path / "my_pkg/ops.py").write_text(op)
    start("-c", f"import accel, torch\n{use}", folder=tmp_path)
    (tmp_path / "my_npu").mkdir()
    (tmp_path / "my_npu/__init__.py").write_text(
        section("Add a backend")[0][1].replace(
            'name = "npu"', 'name = "npu"\n    op_builders = "my_npu.builders"'
        )
    )
    (tmp_path / "my_npu/builders.py").write_text(builder)
    (tmp_path / "my_npu/scale.cpp").write_text('extern "C" int accel_scale() { return 0; }\n')
    script = (
        "import accel, my_npu\naccel.register_op('scale', 'my_pkg.ops:Scale')\n"
        "made = my_npu.NPU().create_op_builder('ScaleBuilder')\n"
        "print(type(made).__module__, made.recipe().name)"
    )
    assert start("-c", script, folder=tmp_path).split() == ["my_npu.builders", "scale"]


def test_readmes_commands_run(cache_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "my_npu.py").write_text(section("Add a backend")[0][1])
    (tmp_path / "train.py").write_text("print('trained')\n")
    (_, text), *_ = section("The command")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    assert len(lines) > 5
    for line in lines:
        name, *arguments = line.split()
        assert name == "accel"
        if not line.startswith(NVCC):
            start("-m", "accel", *arguments, folder=tmp_path)


def test_every_other_page_is_run_by_a_test() -> None:
    # Pages for contributors are followed in tests/simulated or are about this repository; gpu.md
    # needs a GPU, releasing.md is followed in tests/end_to_end/test_wheel.py, async-io.md in
    # tests/ops/io, quantizers.md in tests/ops/quantizers, the pages of coming-from in tests/docs;
    # the others have no program.
    contributing = {"add-a-backend.md", "add-an-op.md", "add-an-optimizer.md", "releasing.md"}
    elsewhere = {
        *contributing,
        "gpu.md",
        "architecture.md",
        "why.md",
        "compatibility.md",
        "async-io.md",
        "quantizers.md",
        "deepspeed-ops.md",
    }
    tests = "".join(path.read_text() for path in (ROOT / "tests/integrations").glob("test_*.py"))
    every = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "coming-from"]
    pages = {path.name for path in every} - elsewhere
    used = {*re.findall(r'\b(?:run|run_two|cells|program)\("([\w-]+\.md)"', tests)}
    assert pages - used == set()


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (("explain", "nope"), "UnknownOp", 1),
        (("explain", "fused_adam", "--accelerator", "gpu"), "UnknownBackend", 1),
        (("cache", "nope"), "NoSuchCommand", 2),
        (("conformance", "nowhere:Class"), "BadParameter", 2),
        (("--nope",), "NoSuchOption", 2),
    ],
    ids=str,
)
def test_errors_are_json_for_who_asks_for_json(
    tmp_path: Path, arguments: tuple[str, ...], kind: str, code: int
) -> None:
    said = json.loads(start("-m", "accel", *arguments, "--json", folder=tmp_path, code=code))
    assert said["error"]["type"].startswith(kind)
    assert said["error"]["message"]


def test_only_what_is_near_is_suggested() -> None:
    from accel.builders.lookup import find_builder

    with pytest.raises(UnknownOp, match=r"^'nope' is not a known op\. Known:"):
        find_builder("nope", "", "cpu")
    with pytest.raises(UnknownOp, match="Did you mean 'FusedLambBuilder'"):
        find_builder("fused_lam", "", "cpu")
    assert suggestion("xBuilder", ["yBuilder"], "Builder") == ""


def test_a_row_is_a_line_in_a_pipe_and_folded_in_a_terminal(tmp_path: Path) -> None:
    lines = start("-m", "accel", "report", "--all", folder=tmp_path, COLUMNS="60").splitlines()
    row, *_ = [line for line in lines if line.strip().startswith("hpu ")]
    assert "https://docs.habana.ai" in row
    master, terminal = pty.openpty()
    with (
        os.fdopen(master, "rb", buffering=0) as screen,
        subprocess.Popen(
            [sys.executable, "-m", "accel", "report"],
            stdout=terminal,
            env={**os.environ, "COLUMNS": "60", "ACCELERATOR": "cpu"},
            cwd=ROOT,
        ) as process,
    ):
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += screen.read(1 << 16)
            except OSError:  # The other end was closed.
                break
        assert process.wait() == 0
    drawn = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).partition("Ops on cpu")[2]
    drawn = drawn.partition("Other backends")[0].splitlines()
    assert len(drawn) > 4
    assert max(map(len, drawn)) <= 60


def test_builds_have_a_folder_of_their_own_accord(cache_dir: Path, tmp_path: Path) -> None:
    said = start("-m", "accel", "build", "fused_adam", folder=tmp_path)
    assert "1 built" in said
    assert f"ACCEL_PREBUILT_DIR={tmp_path / 'prebuilt'}" in said
    assert [*(tmp_path / "prebuilt").rglob("*.so")]


def outside_make() -> dict[str, str]:
    """Return the environment without what `make test` adds, by which a make within tells more."""
    return {name: value for name, value in os.environ.items() if "MAKE" not in name}


def test_make_help_says_what_every_target_does() -> None:
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, env=outside_make(), capture_output=True, text=True, check=True
    )
    told = {line.split()[0]: line for line in done.stdout.splitlines()}
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    assert set(told) == set(targets[1].split())
    assert all(len(line.split()) > 3 for line in told.values())


def test_make_says_what_it_installs_before_it_does(tmp_path: Path) -> None:
    python = tmp_path / "python"
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho pip "$@"\n')
    pip.chmod(0o755)
    python.write_text(f'#!/bin/sh\nmkdir -p "$3/bin"\ncp {pip} "$3/bin/pip"\n')
    python.chmod(0o755)
    environment = tmp_path / "venv"
    done = subprocess.run(
        ["make", f"PYTHON={python}", f"VENV={environment}", f"{environment}/.installed"],
        cwd=ROOT,
        env=outside_make(),
        capture_output=True,
        text=True,
        check=True,
    )
    first, *rest = done.stdout.splitlines()
    assert "torch" in first and "minutes" in first and str(environment) in first
    (install,) = [line for line in rest if line.startswith("pip ")]
    assert "--quiet" not in install and " -q" not in install


def told_threads(folder: Path, **variables: str) -> dict[str, object]:
    facts = json.loads(start("-m", "accel", "report", "--json", folder=folder, **variables))
    found: dict[str, object] = facts["threads"]
    return found


def test_run_lets_idle_threads_sleep_and_keeps_the_users_choice(tmp_path: Path) -> None:
    ask = "import os, sys; print(os.environ.get('GOMP_SPINCOUNT'), sys.argv[1:])"
    program = ("-m", "accel", "run", "-c", ask, "--json", "--steps", "3")
    said = start(*program, folder=tmp_path, GOMP_SPINCOUNT="", OMP_WAIT_POLICY="")
    assert said.strip() == "1000 ['--json', '--steps', '3']"
    assert start(*program, folder=tmp_path, GOMP_SPINCOUNT="7").startswith("7 ")
    assert start(*program, folder=tmp_path, GOMP_SPINCOUNT="", OMP_WAIT_POLICY="active").startswith(
        " ["
    )


def test_the_report_says_how_idle_threads_wait(tmp_path: Path) -> None:
    assert told_threads(tmp_path, OMP_WAIT_POLICY="passive")["spin"] is False
    if os.cpu_count() == 1:
        return
    facts = told_threads(tmp_path, GOMP_SPINCOUNT="", OMP_WAIT_POLICY="")
    assert facts["spin"] is (facts["cpus"] != 1)
    assert facts["hurts"] is (facts["spin"] and facts["load"] >= 0.7)
    assert ("accel run" in str(facts["note"])) is facts["hurts"]
