"""The ``accel`` command as a person runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from accel import accelerator_for
from accel.cli.main import main

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATOR", "cpu")


def accel(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "accel", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "140"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def data(*arguments: str) -> Any:
    return json.loads(accel(*arguments, "--json"))


def test_without_a_command_it_reports() -> None:
    said = accel()
    assert "accelerator: cpu (ACCELERATOR=cpu)" in said
    assert "FusedAdam" in said
    assert "was built without" in said


def test_the_report_begins_with_the_accelerator_and_its_ops() -> None:
    first, rest = accel("report").split("Other backends\n")
    assert first.startswith("accelerator: cpu (ACCELERATOR=cpu): the host, ")
    assert "Ops on cpu" in first and "FusedAdam" in first and "cuda" not in first
    others, _, last = rest.partition("\n\n")
    *lines, more = others.splitlines()
    assert [line.split()[0] for line in lines] == [
        row["name"] for row in data("report")["backends"] if row["name"] != "cpu"
    ]
    assert "https://" not in others and "accel report --all" in more
    assert last.startswith("cache: ") and "torch " in last


def test_the_whole_report_says_what_to_do_about_every_backend() -> None:
    said = accel("report", "--all")
    assert "https://pytorch.org/get-started" in said
    assert re.search(r"^  .*\bhpu\b.* reference ", said, re.MULTILINE)


def test_the_report_as_json_holds_every_verdict_with_its_reason() -> None:
    facts = data("report")
    assert facts["accelerator"]["name"] == "cpu"
    backends = {row["name"]: row for row in facts["backends"]}
    assert backends["cpu"]["accepted"] and not backends["xpu"]["accepted"]
    assert all(row["reason"] for row in backends.values())
    for row in facts["ops"]:
        assert {"cpu", "cuda", "xpu", "hpu"} <= row["backends"].keys()
        for verdict in row["backends"].values():
            assert verdict["rung"] in {"prebuilt", "jit", "portable", "reference", "none"}
            assert verdict["reason"]


def test_an_unusable_choice_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATOR", "xpu")
    said = accel()
    assert "accelerator: none (ACCELERATOR=xpu, but" in said


def test_explain_shows_rungs_plan_and_digest(cache_dir: Path) -> None:
    said = accel("explain", "fused_adam")
    for word in ("prebuilt", "jit", "portable", "reference", "Plan", "Digest", str(cache_dir)):
        assert word in said
    facts = data("explain", "FusedAdamBuilder")
    assert [row["rung"] for row in facts["rungs"]] == ["prebuilt", "jit", "portable", "reference"]
    assert facts["digest"] in accel("explain", "cpu_adam")


def test_explain_counts_old_builds_and_lists_them_on_request(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def explained(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main(["explain", "pin_memory", *arguments])
        return capfd.readouterr().out

    loaded = Path(accelerator_for("cpu").create_op_builder("pin_memory").load().path).parent
    own = cache_dir / loaded.name
    if loaded != own:  # Another test of this process has loaded it.
        shutil.copytree(loaded, own)
    old = [cache_dir / f"{own.name[:-32]}{number * 32}" for number in "12"]
    for folder in old:
        shutil.copytree(own, folder)
    said = explained()
    assert f"{own}\n    would be used as is.\n" in said
    assert not any(str(folder) in said for folder in old)
    assert "  2 other builds of pin_memory that" in said and "cache prune --orphans" in said
    assert "`accel explain pin_memory --all`" in said
    assert "file cpu/io/pin_memory.cpp" not in said
    whole = explained("--all")
    assert all(str(folder) in whole for folder in [own, *old]) and "other build" not in whole
    assert "file cpu/io/pin_memory.cpp" in whole
    assert len(json.loads(explained("--json"))["artifacts"]) == 3
    # A plan that nothing was built for is compared with the newest alone.
    monkeypatch.setenv("CXXFLAGS", "-DNEW=1")
    said = explained()
    assert said.count("differs in") == 1 and "-DNEW=1\n  2 other builds of" in said


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (
            ("build", "random_ltd"),
            1,
            "no native sources for cpu, so there is nothing to build: `acc",
        ),
        (("cache", "prune", "--older-than", "-1"), 2, "-1.0 is not in the range x>=0"),
        (("cache", "prune", "--max-size", "-5"), 2, "-5.0 is not in the range x>=0"),
        (("cache", "prune", "--dry-run"), 0, "0 would be removed, 0 KiB"),
        (("cache", "ls"), 0, "The cache holds no builds: `accel cache path` prints its folder."),
    ],
    ids=str,
)
def test_a_person_is_told_what_there_is(
    arguments: tuple[str, ...],
    code: int,
    says: str,
    cache_dir: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    said = capfd.readouterr()
    assert ended.value.code == code and says in said.out + said.err


def test_the_list_of_commands_has_whole_sentences() -> None:
    for group in ((), ("cache",), ("bench",)):
        commands = (
            CliRunner()
            .invoke(main, [*group, "--help"])
            .output.partition("Commands:\n")[2]
            .splitlines()
        )
        assert commands
        assert [line for line in commands if not re.search(r"[^.]\.$", line)] == []


def test_an_error_is_one_paragraph() -> None:
    said = accel("explain", "fused_adma", code=1)
    assert "Did you mean 'FusedAdamBuilder'?" in said
    assert "Traceback" not in said
    assert "Accepted: cpu" in accel("explain", "fused_adam", "--accelerator", "gpu", code=1)


def test_built_ahead_it_is_found_without_a_compiler(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert "0 failed" in accel("build", "all", "--accelerator", "cpu", "--out", str(out))
    moved = tmp_path / "moved here"
    out.rename(moved)
    monkeypatch.setenv("ACCEL_PREBUILT_DIR", str(moved))
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path / "empty"))
    for row in data("report")["ops"]:
        if row["backends"]["cpu"]["rung"] != "reference":
            assert row["backends"]["cpu"]["rung"] == "prebuilt", row


def test_a_build_that_fails_is_told_at_the_end_and_in_the_exit_code(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/bin/false")
    said = accel("build", "fused_adam", "--out", str(tmp_path / "out"), code=1)
    assert "0 built, 1 failed" in said
    assert "/bin/false" in said


@pytest.mark.parametrize("ops", [("fused_adam", "cpu_adam"), ("all",)], ids=" ".join)
def test_an_architecture_for_a_library_of_the_host_is_said_to_be_ignored(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ops: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CXX", "/bin/false")
    said = accel("build", *ops, "--arch", "9.0", "--out", str(tmp_path / "out"), code=1)
    (line,) = [line for line in said.splitlines() if line.startswith("--arch 9.0 is ignored for ")]
    assert "fused_adam" in line and "cpu_adam" in line
    assert "is ignored" not in accel("build", *ops, "--out", str(tmp_path / "out"), code=1)


def test_an_architecture_of_an_op_of_cuda_is_not_ignored(capfd: pytest.CaptureFixture[str]) -> None:
    from accel.cli import engine

    for ops, ignored in ((("fused_adam",), ""), (("fused_adam", "cpu_adam"), "cpu_adam")):
        engine._say_ignored("9.0", engine._recipes(ops, "cuda", "9.0"), named=True)
        said = capfd.readouterr().err
        assert said == (ignored and f"--arch 9.0 is ignored for {ignored}: only CUDA has it.\n")
    engine._say_ignored("9.0", engine._recipes((), "cuda", "9.0"), named=False)
    assert capfd.readouterr().err == ""


def test_the_cache_can_be_looked_after(cache_dir: Path, tmp_path: Path) -> None:
    accel("build", "fused_adam", "--out", str(tmp_path / "out"))
    assert accel("cache", "path").strip() == str(cache_dir)
    (row,) = data("cache", "ls")
    assert row["name"] == "adam" and row["size"] > 10_000 and row["trouble"] == ""
    assert "in use" in accel("cache", "ls")
    assert accel("cache", "verify").startswith("sound")
    library = Path(row["folder"]) / "adam.so"
    library.write_bytes(library.read_bytes()[:-1])
    assert "broken" in accel("cache", "verify", code=1)
    assert "would remove" in accel("cache", "prune", "--max-size", "0", "--dry-run")
    assert library.exists()
    accel("cache", "prune", "--max-size", "0")
    assert data("cache", "ls") == []


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("accel.cpu:Nope", "no attribute 'Nope'"),
        ("accel.cpu", "not of the form 'module:Class'"),
    ],
)
def test_conformance_of_nothing_is_one_sentence(target: str, says: str) -> None:
    said = accel("conformance", target, code=2)
    assert says in said and "Traceback" not in said
