"""A compiler that succeeds and leaves something else: told by name, never published or mapped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from engine_tools import REPOSITORY, Workshop

from accel import jit
from accel.jit.build.prebuilt import build_prebuilt
from accel.jit.cache.elf import fault_of

# What a wrapper does to the library that the linker has just made.
DAMAGE = {
    "truncated": ("head -c 3000 op.so > cut; mv cut op.so", "is truncated: it has 3000 bytes"),
    "cut in its header": ("head -c 40 op.so > cut; mv cut op.so", "is truncated"),
    "cut by a byte": ("truncate -s -1 op.so", "is truncated"),
    "empty": (": > op.so", "is empty"),
    "zeros": ("size=$(wc -c < op.so); : > op.so; truncate -s $size op.so", "no ELF file"),
    "zeros at the end": ("truncate -s 12000 op.so; truncate -s 99000 op.so", "is damaged"),
    "text": ("echo done > op.so", "begins with b'done"),
    "a script": ("printf '#!/bin/sh\\n' > op.so", "is a script"),
    "an archive": ("rm op.so; ar rcs op.so 0.o", "is an archive of objects"),
    "an object": ("cp 0.o op.so", "is an object file"),
    "another machine": ("printf '\\267' | dd of=op.so bs=1 seek=18 conv=notrunc", "is for aarch64"),
    "another width": ("printf '\\1' | dd of=op.so bs=1 seek=4 conv=notrunc", "with 32 bits"),
    "nothing": ("rm op.so", "wrote no op.so"),
    "a folder": ("rm op.so; mkdir op.so", "cannot be read"),
    "a pipe": ("rm op.so; mkfifo op.so", "not a regular file"),
    "a link to nothing": ("rm op.so; ln -s nothing op.so", "wrote no op.so"),
}
WRAPPER = """case $step in link)
  '{real}' "$@" || exit
  {{ {damage}; }} >/dev/null 2>&1
  exit 0 ;;
esac"""


def use_wrapper(workshop: Workshop, damage: str) -> Path:
    real = shutil.which("g++") or shutil.which("clang++")
    return workshop.use_compiler(WRAPPER.format(real=real, damage=damage))


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_library_is_not_published(workshop: Workshop, damage: str) -> None:
    script, words = DAMAGE[damage]
    wrapper = use_wrapper(workshop, script)
    told = workshop.load()
    assert told["error"] == "BuildFailed", told
    assert words in told["message"], told["message"]
    assert f"({wrapper}) exited with 0, but " in told["message"]
    assert workshop.artifacts() == []
    assert workshop.litter() == []


def test_a_link_or_a_shared_file_is_copied(workshop: Workshop) -> None:
    """Compiler caches leave links to files of their own."""
    kept = workshop.folder / "kept.so"
    for number, link in enumerate(("ln -s", "ln")):
        workshop.set_value(number)
        use_wrapper(workshop, f"mv op.so '{kept}'; {link} '{kept}' op.so")
        told = workshop.load()
        assert told["value"] == number
        assert not Path(told["path"]).is_symlink()
        assert kept.stat().st_ino != Path(told["path"]).stat().st_ino


def test_a_compiler_that_names_no_headers_is_told(workshop: Workshop) -> None:
    real = shutil.which("g++") or shutil.which("clang++")
    workshop.use_compiler(f"""case $step in compile) '{real}' "$@" && rm 0.d; exit ;; esac""")
    told = workshop.load()
    assert told["error"] == "BuildFailed"
    assert "did not list the headers it read" in told["message"]
    assert "cannot be written" not in told["message"]


def cut(folder: Path) -> None:
    """Cut a published library short, with a manifest that says so: as an older version left it."""
    data = (folder / "op.so").read_bytes()[:3000]
    (folder / "op.so").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def accel(workshop: Workshop, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "accel", *words],
        env={**os.environ, **workshop.environment, "PYTHONPATH": str(REPOSITORY), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_that_was_published_is_found_and_built_anew(workshop: Workshop) -> None:
    folder = Path(workshop.load()["path"]).parent
    cut(folder)
    found = accel(workshop, "cache", "verify")
    assert found.returncode == 1
    assert "is truncated: it has 3000 bytes" in found.stdout
    assert workshop.load()["value"] == 7
    assert workshop.compiles() == 2
    assert accel(workshop, "cache", "verify").returncode == 0


def test_one_that_is_prebuilt_is_passed_over(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in workshop.environment.items():
        monkeypatch.setenv(name, text)
    recipe = jit.Recipe("op", "cpu", (workshop.source,), (workshop.include,))
    made = build_prebuilt(recipe, tmp_path / "out")
    shutil.rmtree(workshop.cache)
    cut(made)
    there = {"ACCEL_PREBUILT_DIR": str(tmp_path / "out")}
    told = workshop.load(env={**there, "CXX": "/bin/false"})
    assert told["error"] == "OpUnavailable"
    assert f"{made}/op.so is truncated: it has 3000 bytes" in told["message"]
    told = workshop.load(env=there)
    assert told["rung"] == "jit"
    assert "is truncated" in told["log"], "it was asked for, so it is told that it is not used"
    build_prebuilt(recipe, tmp_path / "out")
    assert workshop.load(env=there)["rung"] == "prebuilt"


def test_no_cut_of_a_library_is_taken_for_a_whole_one(workshop: Workshop) -> None:
    data = Path(workshop.load()["path"]).read_bytes()
    assert fault_of(data) == ""
    assert all(fault_of(data[:size]) for size in range(len(data)))


def test_the_libraries_of_this_machine_are_whole() -> None:
    text = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    words = [line.split() for line in text.splitlines()]
    paths = {Path(line[-1]) for line in words if line[-1].startswith("/") and ".so" in line[-1]}
    faults = {path: fault_of(path.read_bytes()) for path in paths if path.exists()}
    assert faults
    assert not any(faults.values()), faults
