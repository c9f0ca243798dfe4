"""The wheel: pure Python, nothing compiled at install, kernels' sources inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

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
