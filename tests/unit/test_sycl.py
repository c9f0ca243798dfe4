"""Where the SYCL runtime is found, and what is said where it is not."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

from accel.builders.xpu import FusedAdamBuilder
from accel.errors import OpUnavailable
from accel.jit.tools import sycl
from accel.probe import Rejected


class Site:
    """A folder of installed packages, searched before all others."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages = root / "lib" / "python" / "site-packages"
        self.packages.mkdir(parents=True)

    def install(self, version: str, *, files: bool = True, library: str = "libsycl.so.9") -> None:
        facts = self.packages / f"intel_sycl_rt-{version}.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: intel-sycl-rt\nVersion: {version}\n"
        )
        names = ["include/sycl/queue.hpp", f"lib/{library}", f"lib/{library}.0.0"]
        (facts / "RECORD").write_text("".join(f"../../../{name},sha256=x,1\n" for name in names))
        for name in names if files else []:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text("")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path)

    def only_here(name: str) -> Distribution:
        """The machine may have a real one."""
        for found in Distribution.discover(name=name, path=[str(made.packages)]):
            return found
        raise PackageNotFoundError(name)

    monkeypatch.setattr(sycl, "distribution", only_here)
    monkeypatch.setattr(sycl, "_found", {})
    return made


def test_found_where_the_package_says(site: Site) -> None:
    site.install("2026.2.0")
    found = sycl.find_sycl()
    assert isinstance(found, sycl.SyclRuntime)
    assert found.version == "2026.2.0"
    assert found.include == site.root / "include"
    assert found.library == site.root / "lib" / "libsycl.so.9"


def test_absent(site: Site) -> None:
    verdict = sycl.find_sycl()
    assert isinstance(verdict, Rejected)
    assert "intel-sycl-rt is not installed" in verdict.reason
    assert "pip install intel-sycl-rt" in verdict.fix


@pytest.mark.parametrize("version", ["2024.2.1", "2025.0.4", "2025.1.1"])
def test_too_old_to_compile_kernels(site: Site, version: str) -> None:
    site.install(version)
    assert f"{version} cannot compile kernels" in str(sycl.find_sycl())


def test_damaged(site: Site) -> None:
    site.install("2026.2.0", files=False)
    assert "damaged" in str(sycl.find_sycl())


def test_a_package_without_libsycl(site: Site) -> None:
    site.install("2026.2.0", library="libother.so.9")
    assert "no libsycl" in str(sycl.find_sycl())


def test_a_builder_says_why_there_is_nothing_native(site: Site) -> None:
    rungs = dict(FusedAdamBuilder().rungs())
    for rung in ("prebuilt", "jit"):
        assert "intel-sycl-rt is not installed" in str(rungs[rung])
    assert rungs["reference"]
    assert isinstance(FusedAdamBuilder().plan(), Rejected)


def test_a_second_runtime_in_the_process_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("2026.2.0")
    monkeypatch.setattr(sycl, "_mapped", lambda: {"/torch/lib/libsycl.so.8"})
    with pytest.raises(OpUnavailable, match=r"uses /torch/lib/libsycl\.so\.8"):
        sycl.load_sycl()


def test_a_library_that_cannot_be_loaded(site: Site) -> None:
    site.install("2026.2.0")
    with pytest.raises(OpUnavailable, match="cannot be loaded"):
        sycl.load_sycl()


def test_what_the_recipe_takes(site: Site) -> None:
    site.install("2026.2.0")
    recipe = FusedAdamBuilder().recipe()
    assert recipe.link_flags == ("-l:libsycl.so.9",)
    assert recipe.library_dirs == (site.root / "lib",)
    assert ("sycl", "2026.2.0") in recipe.identity
    assert str(site.root) not in " ".join((*recipe.compile_flags, *recipe.link_flags))
