"""Gaudi's own optimizers: found by their files, imported in `load`, warned about where broken."""

import subprocess
import sys
from importlib import invalidate_caches

import pytest

from accel.builders.hpu import FusedAdamBuilder, FusedLambBuilder
from accel.ops.optimizers.gaudi import probe_gaudi

ADAM = "accel_adam_step"


@pytest.fixture
def gaudi(tmp_path, monkeypatch):
    """Put files of a package `habana_frameworks.torch` where Python finds them."""
    before = set(sys.modules)

    def install(**files):
        package = tmp_path / "habana_frameworks/torch"
        for folder in (package, package / "hpex"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "__init__.py").touch()
        (tmp_path / "habana_frameworks/__init__.py").touch()
        for name, text in files.items():
            (package / "hpex" / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        invalidate_caches()

    yield install
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "habana_frameworks":
            del sys.modules[name]


def test_nothing_is_installed():
    assert "not installed" in str(probe_gaudi(ADAM))
    assert FusedAdamBuilder().load().implementation == "reference"


def test_a_release_without_optimizers(gaudi):
    gaudi()
    assert "hpex.optimizers is not installed" in str(probe_gaudi(ADAM))


def test_probing_imports_nothing_of_the_vendor(gaudi):
    gaudi(optimizers="raise AssertionError")
    assert probe_gaudi(ADAM)
    assert "habana_frameworks.torch" not in sys.modules


def test_lazy_mode_has_the_reference(gaudi, monkeypatch):
    gaudi(optimizers="FusedAdamW = object")
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "1")
    assert "lazy mode" in str(probe_gaudi(ADAM))


def test_lamb_and_unknown_ops_say_why(gaudi):
    gaudi(optimizers="FusedLamb = object")
    assert "ratio of norms" in str(dict(FusedLambBuilder().rungs())["vendor"])
    assert "no such optimizer" in str(probe_gaudi("accel_lion_step"))


@pytest.mark.parametrize("text", ["raise ImportError('libhl')", "FusedLamb = object"])
def test_a_broken_release_is_warned_about_and_the_reference_taken(gaudi, text):
    gaudi(optimizers=text)
    with pytest.warns(RuntimeWarning, match="FusedAdamW.*Install the release"):
        assert FusedAdamBuilder().load().implementation == "reference"


def test_the_policy_can_forbid_it(gaudi, monkeypatch):
    gaudi(optimizers="raise AssertionError")
    monkeypatch.setenv("ACCEL_OPS", "reference")
    assert FusedAdamBuilder().load().implementation == "reference"


def test_builders_import_neither_torch_nor_the_vendor():
    code = (
        "import sys, accel.builders.hpu; print({'torch', 'habana_frameworks'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
