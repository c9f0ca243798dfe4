"""A framework that is absent, too old or too new is refused in one sentence."""

import re
import sys
from pathlib import Path

import pytest
from snippets import PAGES

from accel.integrations.needs import RELEASES, require

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("first", "end"), [((1, 0), (2, 0)), ((99, 0), (100, 0))], ids=["too new", "too old"]
)
def test_another_release_is_told_with_the_one_that_works(first, end):
    wanted = f"torch>={first[0]}.{first[1]},<{end[0]}.{end[1]}"
    with pytest.raises(
        ImportError, match=rf"^torch \S+ is installed, and accel works with {wanted}"
    ):
        require("torch", first, end)
    assert require("torch", (2, 0), (3, 0)) is None


def test_none_is_told_and_nothing_is_imported(monkeypatch):
    said = r"^no-such-package is not installed, and accel works with .*: pip install '.*'\.$"
    with pytest.raises(ImportError, match=said):
        require("no-such-package", (1, 2), (2, 0))


def wanted(package):
    (first, end) = RELEASES[package]
    return f"{package}>={first[0]}.{first[1]},<{end[0]}.{end[1]}"


@pytest.mark.parametrize("package", RELEASES)
@pytest.mark.parametrize("which", ["too old", "first", "last", "too new"])
def test_of_each_framework_the_releases_that_work(tmp_path, monkeypatch, package, which):
    (first, end) = RELEASES[package]
    older = (first[0], first[1] - 1)
    newest = (end[0], end[1] - 1) if end[1] else (end[0] - 1, 999)
    release = {"too old": older, "first": first, "last": newest, "too new": end}[which]
    found = f"{release[0]}.{release[1]}.1"
    # Metadata as pip leaves it, found before that of a release that is installed.
    folder = tmp_path / f"{package.replace('-', '_')}-{found}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {found}\n")
    monkeypatch.syspath_prepend(tmp_path)
    if which in {"first", "last"}:
        require(package)
        return
    said = f"{package} {found} is installed, and accel works with {wanted(package)}: "
    with pytest.raises(ImportError, match=rf"^{re.escape(said)}pip install '.*'\.$"):
        require(package)


@pytest.mark.parametrize("package", RELEASES)
def test_pages_and_extras_name_the_same_releases(package):
    page = (PAGES / f"{package}.md").read_text()
    extra = "[train]" if package in {"ray", "sentence-transformers"} else ""
    named = wanted(package).replace(">=", f"{extra}>=", 1)
    assert f"Works with `{named}`" in page
    assert f'require("{package}")' in page
    if package != "deepspeed":  # The tests' release is pinned.
        assert f'"{named}"' in PROJECT


def test_what_accel_knows_nothing_of_is_told():
    with pytest.raises(ValueError, match=r"knows no releases of it\. Known: accelerate, "):
        require("pytest")


def test_lightning_is_asked_for_before_it_is_imported():
    try:
        import lightning  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ImportError, match=r"pip install 'lightning>=2\.5,<3\.0'"):
            import accel.integrations.lightning  # noqa: F401
        assert "accel.integrations.lightning" not in sys.modules
