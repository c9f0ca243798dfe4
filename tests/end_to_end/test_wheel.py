"""The wheels: a pure one with the kernels' sources, and one with prebuilt CPU ops beside them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Fails the build if installing looks at torch or at a compiler.
POISON = "raise RuntimeError('installing imports torch')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, tracked):
        wanted = name.startswith(("accel/", "op_builder/", "csrc/")) or "/" not in name
        if wanted and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    (folder / "poison").mkdir()
    (folder / "poison" / "torch.py").write_text(POISON)
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--wheel-dir", str(folder), str(source),
        ],
        check=True,
        env={**os.environ, "PYTHONPATH": str(folder / "poison"), "CXX": "/bin/false"},
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def test_it_is_pure_and_whole(wheel: Path) -> None:
    assert wheel.name.startswith("accel_torch-") and wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"accel", "op_builder"}
    for folder, inside in (
        ("accel", "accel"),
        ("op_builder", "op_builder"),
        ("csrc", "accel/_csrc"),
    ):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert f"{inside}/{file.relative_to(ROOT / folder)}" in names, file
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_installed_it_compiles_from_its_own_sources(
    wheel: Path, tmp_path: Path, cache_dir: Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import accel, accel.jit\n"
        "accel.set_accelerator('cpu')\n"
        "op = accel.get_accelerator().create_op_builder('FusedAdamBuilder').load()\n"
        "print(accel.__file__, accel.jit.csrc_dir(), op.implementation)\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.returncode == 0, done.stderr
    home, sources, rung = done.stdout.split()
    assert home == str(tmp_path / "site" / "accel" / "__init__.py")
    assert sources == str(tmp_path / "site" / "accel" / "_csrc")
    assert rung == "jit"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheel_tool", ROOT / "tools/wheel.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def platform_wheel(
    tool: ModuleType, wheel: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    made: Path = tool.add_prebuilt(wheel, tmp_path_factory.mktemp("platform"), session_cache)
    return made


@pytest.fixture(scope="module")
def environment(platform_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with the wheel; what it depends on is found in the tests' own."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("-packages")]
    (site / "dependencies.pth").write_text("\n".join(others))
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install"),
            *("--quiet", "--no-deps", "--no-index", "--ignore-installed", platform_wheel),
        ],
        check=True,
    )
    return folder


class Installed:
    """The installed package, asked in processes that find no compiler."""

    def __init__(self, environment: Path, tmp_path: Path) -> None:
        (site,) = environment.glob("lib/python*/site-packages")
        self.package = site / "accel"
        self.prebuilt = self.package / "_prebuilt"
        self._python = environment / "bin/python"
        self._place = tmp_path
        (tmp_path / "empty").mkdir()

    def answer(self, code: str, **variables: str) -> Any:
        done = subprocess.run(
            [self._python, "-c", f"import json\n{code}"],
            capture_output=True,
            text=True,
            cwd=self._place,
            env={
                "PATH": str(self._place / "empty"),
                "HOME": str(self._place),
                "ACCEL_CACHE_DIR": str(self._place / "cache"),
                "ACCELERATOR": "cpu",
                **variables,
            },
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    def where(self, **variables: str) -> str:
        """Return where Adam's prebuilt library is, or why there is none."""
        code = (
            "from accel import jit\n"
            "from accel.builders.cpu import FusedAdamBuilder\n"
            "probe = dict(jit.availability(FusedAdamBuilder().recipe()))['prebuilt']\n"
            "print(json.dumps(probe.note if probe else str(probe)))"
        )
        return str(self.answer(code, **variables))

    def library(self) -> Path:
        (found,) = self.prebuilt.glob("adam-*/adam.so")
        return found


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Iterator[Installed]:
    subject = Installed(environment, tmp_path)
    kept = tmp_path / "kept"
    shutil.copytree(subject.package, kept)
    yield subject
    shutil.rmtree(subject.package)
    shutil.copytree(kept, subject.package)


def test_without_a_compiler_every_cpu_op_that_has_a_kernel_is_prebuilt(
    installed: Installed,
) -> None:
    code = """
import accel
from accel import registry
from accel.ops.optimizers.prepared import host_watch
acc = accel.get_accelerator()
builders = [acc.create_op_builder(name) for name in registry.builder_names()]
ops = {one.NAME: one.load() for one in builders if one.has_sources()}
rungs = {name: [op.implementation, str(op.path)] for name, op in ops.items()}
watch = dict(accel.jit.availability(host_watch.recipe()))["prebuilt"]
print(json.dumps([accel.__file__, rungs, bool(watch)]))
"""
    home, rungs, watch = installed.answer(code)
    assert home == str(installed.package / "__init__.py")
    assert len(rungs) >= 10 and watch
    assert {rung for rung, _ in rungs.values()} == {"prebuilt"}
    assert all(str(installed.prebuilt) in path for _, path in rungs.values())
    assert not [*installed.package.parent.parent.rglob("*.o")]


def test_what_does_not_change_a_source_does_not_make_the_library_stale(
    installed: Installed,
) -> None:
    library = str(installed.library().parent)
    assert installed.where() == library
    for path in installed.package.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert installed.where() == library


@pytest.mark.parametrize("source", ["cpu/optimizers/adam.cpp", "include/accel/adam.h"])
def test_an_edited_source_refuses_the_library(installed: Installed, source: str) -> None:
    edited = installed.package / "_csrc" / source
    edited.write_text(edited.read_text() + "\n// edited\n")
    assert f"differs in file {source}" in installed.where()


def test_a_changed_library_is_refused(installed: Installed) -> None:
    data = bytearray(installed.library().read_bytes())
    data[len(data) // 2] ^= 1
    installed.library().write_bytes(data)
    assert "checksum" in installed.where()


@pytest.mark.parametrize("what", ["folder", "artifact", "library"])
def test_what_others_may_write_unlike_the_package_is_refused(
    installed: Installed, what: str
) -> None:
    library = installed.library()
    paths = {"folder": installed.prebuilt, "artifact": library.parent, "library": library}
    paths[what].chmod(0o777)
    assert f"Others may write {paths[what]}" in installed.where()


def test_the_users_folder_is_searched_before_the_packages(
    installed: Installed, tmp_path: Path
) -> None:
    shutil.copytree(installed.prebuilt, tmp_path / "mine")
    assert installed.where() == str(installed.library().parent)
    found = installed.where(ACCEL_PREBUILT_DIR=str(tmp_path / "mine"))
    assert found == str(tmp_path / "mine" / installed.library().parent.name)


def test_the_platforms_wheel_is_small_and_whole(tool: ModuleType, platform_wheel: Path) -> None:
    assert {"adam", "lamb", "multi_tensor", "watch"} <= set(tool.check(platform_wheel))
    broken = platform_wheel.with_name("broken.whl")
    with (
        zipfile.ZipFile(platform_wheel) as old,
        zipfile.ZipFile(broken, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name) + (b"x" if name.endswith("adam.so") else b""))
    with pytest.raises(SystemExit, match=r"adam\.so in .* is not the library that was built"):
        tool.check(broken)


def test_auditwheel_gives_it_a_manylinux_tag(
    tool: ModuleType, platform_wheel: Path, tmp_path: Path
) -> None:
    pytest.importorskip("auditwheel", reason="needs the extra release")
    assert tool.check(tool.audit(platform_wheel, tmp_path))
