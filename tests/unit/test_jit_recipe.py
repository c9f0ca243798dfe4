"""Recipes, their fit, and manifests that anybody could have written."""

from __future__ import annotations

import _ctypes
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accel import jit
from accel.builders.cpu import FusedAdamBuilder
from accel.errors import OpUnavailable
from accel.jit.cache.artifact import Artifact, read_manifest, verify
from accel.jit.disk.safe_io import sha256
from accel.jit.explain import explain
from accel.jit.recipe import take_fit
from accel.probe import Rejected


@pytest.fixture
def recipe(tmp_path: Path) -> jit.Recipe:
    source = tmp_path / "op.cpp"
    source.write_text('#include "op.h"\n')
    (tmp_path / "op.h").write_text("int x;\n")
    return jit.Recipe("op", "cpu", (source,), (tmp_path,))


def test_public_names_match() -> None:
    assert sorted(jit.__all__) == dir(jit)
    for name in jit.__all__:
        assert getattr(jit, name).__doc__
    with pytest.raises(AttributeError, match="nothing"):
        _ = jit.nothing


def test_a_recipe_is_a_value(recipe: jit.Recipe) -> None:
    assert recipe == recipe.replace()
    assert hash(recipe) == hash(recipe.replace())
    with pytest.raises(AttributeError):
        recipe.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["", "a b", "../a", "a/b", "a\n", "ü", "x" * 65, "a-b", "a.b"])
def test_names_stay_inside_the_cache(recipe: jit.Recipe, name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        recipe.replace(name=name)
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        recipe.replace(backend=name)


def test_a_recipe_needs_a_source(recipe: jit.Recipe) -> None:
    with pytest.raises(ValueError, match="no source"):
        recipe.replace(sources=())


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"backend": "cuda"},
        {"language": "cuda"},
        {"abi": 2},
        {"openmp": True},
        {"cxx_runtime": False},
        {"targets": ("avx2",)},
        {"parts": ("ONE",)},
        {"compile_flags": ("-DX",)},
        {"gcc_flags": ("-fno-tree-pre",)},
        {"link_flags": ("-lm",)},
        {"identity": (("torch", "2.13"),)},
        {"extension": True},
    ],
)
def test_what_is_declared_is_part_of_the_fit(recipe: jit.Recipe, change: dict[str, object]) -> None:
    assert recipe.replace(**change).fit != recipe.fit  # type: ignore[arg-type]


def test_which_of_two_headers_is_meant_is_part_of_the_fit(tmp_path: Path) -> None:
    source = tmp_path / "op.cpp"
    source.write_text("#include <one/h.h>\n#include <two/h.h>\n#include <h.h>\n")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "h.h").write_text(f"// {name}\n")
    one, two = (
        jit.Recipe("op", "cpu", (source,), (tmp_path, tmp_path / first, tmp_path / second))
        for first, second in (("one", "two"), ("two", "one"))
    )
    assert one.fit != two.fit


def test_targets_are_no_part_of_the_base(recipe: jit.Recipe) -> None:
    assert take_fit(recipe.replace(targets=("avx2",))).base == take_fit(recipe).base


def test_the_fit_reads_no_cache(recipe: jit.Recipe, tmp_path: Path) -> None:
    before = recipe.fit
    (tmp_path / "op.h").write_text("int y;\n")
    assert recipe.fit != before


def test_elsewhere_than_on_linux_native_says_why_not(
    recipe: jit.Recipe, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.delattr("os.uname")
    plan = jit.make_plan(recipe)
    assert isinstance(plan, Rejected)
    assert "Linux only; this is win32" in plan.reason
    assert [rung for rung, probe in jit.availability(recipe) if probe] == []
    with pytest.raises(OpUnavailable, match="this is win32"):
        jit.acquire(recipe)
    assert explain(recipe).plan == plan


def test_elsewhere_than_on_linux_a_kernel_says_why_not(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.delattr("os.uname")
    builder = FusedAdamBuilder()
    assert "this is win32" in str(builder.plan())
    rungs = dict(builder.rungs())
    assert "this is win32" in str(rungs["jit"]) and rungs["reference"]
    with pytest.raises(OpUnavailable, match="this is win32"):
        builder.jit_load()


def test_a_missing_source_is_no_exception_where_none_is_allowed(
    recipe: jit.Recipe, cache_dir: Path
) -> None:
    recipe.sources[0].unlink()
    assert isinstance(jit.make_plan(recipe), Rejected)
    for _, probe in jit.availability(recipe):
        assert isinstance(probe, Rejected)
        assert "op.cpp" in probe.reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
SOUND = {
    "engine": "1",
    "name": "op",
    "backend": "cpu",
    "fit": "f",
    "base": "b",
    "digest": "0" * 32,
    "sha256": "s",
    "glibc": "2.1",
    "size": 3,
    "extension": False,
    "targets": [],
    "user_flags": [],
    "ingredients": {"x": "y"},
    "headers": {},
}


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.dictionaries(st.sampled_from(sorted(SOUND)), json_values, max_size=3),
    gone=st.sets(st.sampled_from(sorted(SOUND)), max_size=2),
)
def test_no_manifest_raises(tmp_path: Path, changes: dict[str, object], gone: set[str]) -> None:
    folder = tmp_path / f"op-{'0' * 32}"
    folder.mkdir(mode=0o700, exist_ok=True)
    data = {key: value for key, value in (SOUND | changes).items() if key not in gone}
    (folder / "manifest.json").write_text(json.dumps(data))
    (folder / "op.so").write_bytes(b"abc")
    assert isinstance(verify(folder, "op"), Artifact | Rejected)
    manifest = read_manifest(folder)
    assert isinstance(manifest, Rejected) or manifest["name"] == "op"


@pytest.mark.parametrize("glibc", ["9" * 5000, "2." * 5000, "²", "", "2.x", "-1"])
def test_no_version_raises(tmp_path: Path, glibc: str) -> None:
    folder = tmp_path / f"op-{'0' * 32}"
    folder.mkdir(mode=0o700)
    library = Path(_ctypes.__file__).read_bytes()
    (folder / "op.so").write_bytes(library)
    sound = SOUND | {"sha256": sha256(library), "size": len(library), "glibc": glibc}
    (folder / "manifest.json").write_text(json.dumps(sound))
    assert isinstance(verify(folder, "op"), Rejected) == (glibc == "9" * 5000)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=64))
def test_no_bytes_raise(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / f"op-{'0' * 32}"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "manifest.json").write_bytes(data)
    assert isinstance(verify(folder, "op"), Rejected)
