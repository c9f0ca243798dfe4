"""Packages that bring backends by entry points: what a bad one is told, and that others work on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import accel
from accel import registry
from accel.cli.report import report
from accel.errors import BackendUnavailable
from accel.targets import forget_installed
from accel.verdicts import Candidate

Install = Callable[..., None]

GOOD = """
from accel import Accelerator

class Backend(Accelerator):
    name = "good"
    device_type = "cpu"

    def is_available(self):
        return True
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A function that installs a package whose module of the same name has the given source."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_instances", {})
    before = {*sys.modules}

    def package(name: str, backend: str, source: str = GOOD, target: str = "") -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        point = f"{backend} = {target or f'{name}:Backend'}"
        (info / "entry_points.txt").write_text(f"[accel.backends]\n{point}\n")
        (tmp_path / f"{name}.py").write_text(source)
        forget_installed()

    yield package
    for name in {*sys.modules} - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def candidates(name: str) -> list[Candidate]:
    return [one for one in accel.candidates() if one.name == name]


BAD = {
    "forgets": (
        "from accel import Accelerator\nclass Backend(Accelerator): name = 'bad'\n",
        "bad.Backend is not an accelerator yet: define is_available()",
    ),
    "nameless": (
        "from accel import Accelerator\nclass Backend(Accelerator):\n"
        "    def is_available(self): return True\n",
        "define name",
    ),
    "raises at import": ("import absent_driver\n", "No module named 'absent_driver'"),
    "ends the process": ("raise SystemExit('no licence')\n", "SystemExit: no licence"),
    "has no class": ("", "no attribute 'Backend'"),
    "is no accelerator": ("Backend = dict\n", "not a subclass of accel.Accelerator"),
    "raises in its probe": (
        GOOD.replace("good", "bad") + "    def probe(self): raise OSError('libbad.so')\n",
        "OSError: libbad.so",
    ),
    "ends in its probe": (
        GOOD.replace("good", "bad") + "    def probe(self): raise SystemExit(3)\n",
        "SystemExit: 3",
    ),
    "answers with a word": (
        GOOD.replace("good", "bad") + "    def probe(self): return 'yes'\n",
        "probe() returned 'yes', not Accepted or Rejected",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_backend_is_named_and_the_others_work_on(install: Install, fault: str) -> None:
    source, says = BAD[fault]
    install("bad", "bad", source)
    install("good", "good")
    (bad,) = candidates("bad")
    assert not bad.accepted
    assert "bad:Backend" in bad.reason and says in bad.reason
    assert bad.origin == "package bad" and "package bad" in bad.fix
    with pytest.raises(BackendUnavailable, match="bad:Backend"):
        accel.set_accelerator("bad")
    accel.set_accelerator("good")
    assert accel.get_accelerator().name == "good"
    rows = report()
    assert says in next(row["reason"] for row in rows["backends"] if row["name"] == "bad")
    assert all("good" in row["backends"] for row in rows["ops"])


def test_a_target_without_a_class_is_told(install: Install) -> None:
    install("bad", "bad", target="bad")
    assert "'bad' is not of the form 'module:Class'" in candidates("bad")[0].reason


def test_a_built_in_name_cannot_be_taken(install: Install) -> None:
    install("thief", "cpu", GOOD.replace("good", "cpu"))
    first, second = candidates("cpu")
    assert (first.origin, first.accepted) == ("built in", True)
    assert (second.origin, second.accepted) == ("package thief", False)
    assert "thief:Backend claims a name of accel.cpu:CPUAccelerator" in second.reason
    assert "package thief" in second.fix
    accel.set_accelerator("cpu")
    assert type(accel.get_accelerator()).__module__ == "accel.cpu"


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_of_two_packages_that_claim_a_name_the_first_by_name_has_it(
    install: Install, order: tuple[str, str]
) -> None:
    for name in order:
        install(name, "good")
    first, second = candidates("good")
    assert (first.origin, first.accepted) == ("package one", True)
    assert (second.origin, second.accepted) == ("package two", False)
    assert "two:Backend claims a name of one:Backend (package one)" in second.reason
    assert "Rename the entry point in package two" in second.fix
    assert report()["backends"]


def test_the_loser_of_a_name_that_is_broken_breaks_no_report(install: Install) -> None:
    install("one", "good", "import absent_driver\n")
    install("two", "good")
    assert [one.accepted for one in candidates("good")] == [False, False]
    assert all("cpu" in row["backends"] for row in report()["ops"])


BROKEN_BUILDERS = """
from accel.builders.base import OpBuilder

class ThingBuilder(OpBuilder):
    NAME = "thing"
    op = "nowhere:Thing"

    def rungs(self):
        raise RuntimeError("half written")

    compatibility = rungs
"""


def test_a_builder_that_raises_breaks_no_report(install: Install) -> None:
    install("good", "good", GOOD + "    op_builders = 'good'\n" + BROKEN_BUILDERS)
    row = next(row for row in report()["ops"] if row["op"] == "ThingBuilder")
    assert row["backends"]["good"]["reason"] == "its builder failed: RuntimeError: half written"
