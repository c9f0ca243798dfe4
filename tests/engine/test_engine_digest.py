"""Guarantees 4, 7 and 11: what makes a library stale, what does not, and a warm load's cost."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from engine_tools import SOURCE, Workshop, finish, until

from accel.builders import cpu, cuda, xpu
from accel.builders.base import OpBuilder
from accel.jit import csrc_dir
from accel.jit.recipe import Recipe, take_fit

# The kinds of file that a load looks into.
READ = {".cpp", ".h", ".json", ".so"}


def test_a_warm_load_runs_nothing_and_touches_no_lock(workshop: Workshop) -> None:
    del workshop.environment["CXX"]
    cold = workshop.load(watch=True)
    assert cold["events"], "the watch sees nothing"
    assert any(".lock" in path for path in cold["opened"])
    warm = workshop.load(watch=True)
    assert warm["value"] == 7
    assert warm["events"] == []
    assert [path for path in warm["opened"] if ".locks" in path or ".staging" in path] == []
    assert not warm["torch"]


def test_a_warm_load_reads_each_of_its_files_once(workshop: Workshop) -> None:
    """What it costs, counted: a busy machine changes times, not this."""
    del workshop.environment["CXX"]
    workshop.load()
    opened = workshop.load(watch=True)["opened"]
    read = Counter(Path(path).name for path in opened if Path(path).suffix in READ)
    facts = [name for name in read if re.fullmatch(r"[0-9a-f]{32}\.json", name)]
    assert len(facts) == 1, "what the compiler answered is kept in one file"
    assert {*read} - {*facts} == {"op.cpp", "value.h", "number.h", "manifest.json", "op.so"}
    assert [name for name, times in read.items() if times > 1] == []
    # The rest are our own modules, once each, and the folders on the cache's path.
    assert len(opened) < 90, opened


@pytest.mark.parametrize("file", ["op.cpp", "include/value.h", "include/deep/number.h"])
def test_an_edit_is_honoured(workshop: Workshop, file: str) -> None:
    assert workshop.load()["value"] == 7
    path = workshop.folder / file
    text = path.read_text()
    for old, new in (("return VALUE", "return 8"), ("VALUE NUMBER", "VALUE 8"), ("R 7", "R 8")):
        text = text.replace(old, new)
    path.write_text(text)
    assert workshop.load()["value"] == 8
    assert len(workshop.artifacts()) == 2


def _within(recipe: Recipe, csrc: Path) -> Recipe:
    """Return the recipe with its files in a copy of the folder of sources."""
    sources, folders = (
        tuple(csrc / path.relative_to(csrc_dir()) for path in paths)
        for paths in (recipe.sources, recipe.include_dirs)
    )
    return recipe.replace(sources=sources, include_dirs=folders)


@pytest.mark.parametrize("backend", [cpu, cuda, xpu], ids=["cpu", "cuda", "xpu"])
@pytest.mark.parametrize(
    ("header", "stale"),
    [
        ("optimizers/adam.h", True),
        ("optimizer.h", True),
        ("rounding.h", True),
        ("random.h", True),
        ("shared.h", True),
        ("optimizers/lion.h", False),
    ],
)
def test_an_edit_of_a_shared_formula_makes_every_device_stale(
    backend: Any, header: str, stale: bool, tmp_path: Path
) -> None:
    csrc = tmp_path / "csrc"
    shutil.copytree(csrc_dir(), csrc)
    # By the base class, since a recipe for SYCL looks for its runtime.
    recipe = _within(OpBuilder.recipe(backend.FusedAdamBuilder()), csrc)
    before = take_fit(recipe).digest
    with (csrc / "common" / header).open("a") as file:
        file.write("// Edited.\n")
    assert (take_fit(recipe).digest != before) == stale


def test_an_edit_is_honoured_in_the_same_process(workshop: Workshop) -> None:
    header = workshop.include / "deep" / "number.h"
    told = workshop.load(edit=[str(header), "#define NUMBER 9\n"])
    assert (told["value"], told["again"]) == (7, 9)


def test_an_edit_during_the_build_is_not_kept_under_the_old_digest(workshop: Workshop) -> None:
    pause = workshop.state / "wait-compile"
    pause.touch()
    builder = workshop.start()
    until(workshop.compiles)
    workshop.set_value(8)
    pause.unlink()
    assert finish(builder)["value"] == 8
    workshop.set_value(7)
    assert workshop.load()["value"] == 7


def test_a_new_header_that_shadows_another_is_honoured(workshop: Workshop) -> None:
    assert workshop.load()["value"] == 7
    (workshop.folder / "value.h").write_text("#define VALUE 11\n")
    assert workshop.load()["value"] == 11


def test_a_header_known_only_from_the_compiler_is_rechecked(workshop: Workshop) -> None:
    hidden = workshop.folder / "hidden.h"
    hidden.write_text("#define VALUE 5\n")
    workshop.source.write_text(SOURCE.replace('#include "value.h"', "#include HIDDEN"))
    flags = {"compile_flags": [f'-DHIDDEN="{hidden}"']}
    assert workshop.load(more=flags)["value"] == 5
    hidden.touch()
    assert workshop.load(more=flags)["value"] == 5
    assert workshop.compiles() == 1
    hidden.write_text("#define VALUE 6\n")
    assert workshop.load(more=flags)["value"] == 6
    assert workshop.compiles() == 2


def test_touched_files_change_nothing(workshop: Workshop) -> None:
    first = workshop.load()
    for path in (workshop.source, *workshop.include.rglob("*.h")):
        os.utime(path, (1, 1))
    assert workshop.load()["digest"] == first["digest"]
    assert workshop.compiles() == 1


def test_a_moved_project_changes_nothing(workshop: Workshop, tmp_path: Path) -> None:
    first = workshop.load()
    elsewhere = tmp_path / "else where"
    shutil.copytree(workshop.folder, elsewhere)
    moved = workshop.load(
        sources=[str(elsewhere / "op.cpp")], include_dirs=[str(elsewhere / "include")]
    )
    assert moved["path"] == first["path"]
    assert workshop.compiles() == 1


def test_the_order_of_path_changes_nothing(workshop: Workshop, tmp_path: Path) -> None:
    del workshop.environment["CXX"]
    first = workshop.load()
    folders = os.environ["PATH"].split(os.pathsep)
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "g++").symlink_to(os.path.realpath(str(shutil.which("g++"))))
    again = workshop.load(env={"PATH": os.pathsep.join([str(copies), *reversed(folders)])})
    assert again["digest"] == first["digest"]


def test_another_compiler_is_another_digest(workshop: Workshop) -> None:
    first = workshop.load()
    workshop.use_compiler(name="another", extra='set -- -DANOTHER "$@"')
    second = workshop.load()
    assert second["digest"] != first["digest"]
    assert second["value"] == 7


def test_an_upgraded_compiler_is_noticed(workshop: Workshop) -> None:
    first = workshop.load()
    workshop.use_compiler(extra='set -- -DUPGRADED "$@"')
    assert workshop.load()["digest"] != first["digest"]


def test_a_compiler_without_openmp_builds_for_one_thread(workshop: Workshop) -> None:
    headers = workshop.folder / "headers"
    headers.mkdir()
    workshop.environment["CXX"] = f"g++ -nostdinc -I{headers}"
    workshop.source.write_text("#ifdef _OPENMP\n#define VALUE 2\n#else\n#define VALUE 1\n#endif\n")
    with workshop.source.open("a") as file:
        file.write(SOURCE.replace('#include "value.h"', ""))
    told = workshop.load(more={"openmp": True})
    assert told["value"] == 1
    assert "finds no omp.h" in told["log"]
    assert workshop.load(more={"openmp": True}, watch=True)["events"] == []
    (headers / "omp.h").touch()
    assert workshop.load(more={"openmp": True})["value"] == 2


def test_user_flags_are_part_of_the_digest(workshop: Workshop) -> None:
    first = workshop.load()
    second = workshop.load(env={"CXXFLAGS": "-DEXTRA=1"})
    assert second["digest"] != first["digest"]


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-march=native", "-o evil", "@file"])
def test_harmful_user_flags_are_refused_by_name(workshop: Workshop, flag: str) -> None:
    told = workshop.load(env={"CXXFLAGS": f"-O2 {flag}"})
    assert told["error"] == "OpUnavailable"
    assert flag.split(maxsplit=1)[0] in told["message"]
    assert workshop.compiles() == 0


@pytest.mark.parametrize("compiler", ["/bin/false", "no-such-compiler", "'unfinished", "/bin/cat"])
def test_without_a_compiler_the_cached_library_is_used(workshop: Workshop, compiler: str) -> None:
    first = workshop.load()
    told = workshop.load(env={"CXX": compiler})
    assert told["path"] == first["path"]
    assert workshop.said("CXX, CFLAGS, CXXFLAGS or NVCC cannot be followed") == 1
    workshop.set_value(8)
    told = workshop.load(env={"CXX": compiler})
    assert told["error"] == "OpUnavailable"
    assert "CXX" in told["message"]
    assert "differs in file include/deep/number.h" in told["message"]


def test_broken_cuda_does_not_matter(workshop: Workshop, tmp_path: Path) -> None:
    broken = {"CUDA_HOME": str(tmp_path / "nowhere"), "NVCC": "/bin/false"}
    assert workshop.load(env=broken)["value"] == 7
