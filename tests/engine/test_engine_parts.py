"""One source, compiled in parts side by side: the library of the whole, sooner."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from accel import jit
from accel.builders import cpu
from accel.errors import BuildFailed

SOURCE = """#if !defined(PART_ONE) && !defined(PART_TWO)
#define PART_ONE
#define PART_TWO
#endif
#include "number.h"
int number();
#ifdef PART_ONE
int number() { return NUMBER; }
#endif
#ifdef PART_TWO
extern "C" __attribute__((visibility("default"))) int value() { return number(); }
#endif
"""
KERNELS = (
    cpu.FusedAdamBuilder,
    cpu.FusedLionBuilder,
    cpu.FusedAdagradBuilder,
    cpu.FusedLambBuilder,
    cpu.Adam8bitBuilder,
)


@pytest.fixture
def recipe(tmp_path: Path, cache_dir: Path) -> jit.Recipe:
    source = tmp_path / "op.cpp"
    source.write_text(SOURCE)
    (tmp_path / "number.h").write_text("#define NUMBER 7\n")
    return jit.Recipe("op", "cpu", (source,), (tmp_path,), parts=("PART_ONE", "PART_TWO"))


def compiles(recipe: jit.Recipe) -> list[tuple[str, ...]]:
    plan = jit.make_plan(recipe)
    assert plan
    return [command.argv for command in plan.commands if command.source]


def test_each_part_is_compiled_and_together_they_are_the_library(recipe: jit.Recipe) -> None:
    one, two = compiles(recipe)
    assert ("-DPART_ONE" in one, "-DPART_TWO" in one) == (True, False)
    assert ("-DPART_ONE" in two, "-DPART_TWO" in two) == (False, True)
    assert jit.acquire(recipe).handle.value() == 7
    assert jit.acquire(recipe.replace(parts=())).handle.value() == 7


def test_an_error_that_all_parts_share_is_told_once(recipe: jit.Recipe) -> None:
    recipe.sources[0].write_text("#error reason\n")
    with pytest.raises(BuildFailed, match=r"op\.cpp:1:2: error: (#error )?reason") as told:
        jit.acquire(recipe)
    assert str(told.value).count(" error: ") == 1


def test_a_missing_part_is_found_when_the_library_is_linked(recipe: jit.Recipe) -> None:
    with pytest.raises(BuildFailed, match="number"):
        jit.acquire(recipe.replace(parts=("PART_TWO",)))


@pytest.mark.skipif(
    shutil.which("nm") is None or platform.machine() != "x86_64", reason="reads symbols with nm"
)
@pytest.mark.parametrize("builder", KERNELS, ids=lambda builder: builder.NAME)
def test_a_kernel_in_parts_is_the_whole_kernel(
    builder: type[cpu.FusedAdamBuilder], tmp_path: Path, cache_dir: Path
) -> None:
    recipe = builder().recipe()
    assert len(compiles(recipe)) == 4
    levels = {}
    for name, asked in (("parts", recipe), ("whole", recipe.replace(parts=()))):
        path = jit.acquire(asked).path
        exported = subprocess.run(
            ["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True
        )
        symbols = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
        tables = set(re.findall(r"_ZN(?:8baseline|4avx2|6avx512)\d+\w+_levelE", symbols))
        levels[name] = (sorted(re.findall(r" T (\w+)", exported.stdout)), tables)
    assert levels["parts"] == levels["whole"]
    assert len(levels["parts"][1]) == 3
