"""`builder()` in the ``setup.py`` of somebody: wheels, editable installs, sdists, loads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import op_builder
from accel.errors import OpUnavailable

ROOT = Path(__file__).parents[2]
CPP = """#include "two.h"
extern "C" __attribute__((visibility("default"))) int own_value() { return TWO; }
"""
CUDA = """
__global__ void kernel(int *out) { *out = 1; }
extern "C" __attribute__((visibility("default"))) int cuda_value(int *out) {
  if (out) kernel<<<1, 1>>>(out);
  return 3;
}
"""
# A Python module without torch's headers, which take half a minute to compile.
MODULE = """#include <Python.h>
static PyObject *value(PyObject *, PyObject *) { return PyLong_FromLong(4); }
static PyMethodDef methods[] = {{"value", value, METH_NOARGS, ""}, {}};
#define NAME_(name) PyInit_##name
#define NAME(name) NAME_(name)
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "ext", "", -1, methods};
PyMODINIT_FUNC NAME(TORCH_EXTENSION_NAME)() { return PyModule_Create(&definition); }
"""
BUILDERS = """
from accel.builders.base import OpBuilder
from accel.builders.kinds import CUDAOpBuilder
from op_builder import TorchOpBuilder

class OwnBuilder(OpBuilder):
    NAME = "own"
    def sources(self): return ["csrc/own.cpp"]
    def include_paths(self): return ["csrc"]

class NamedBuilder(OwnBuilder):
    NAME = "named"
    def absolute_name(self): return "theirs.ops.named_op"

class CudaBuilder(CUDAOpBuilder):
    NAME = "gpu"
    def sources(self): return ["csrc/gpu.cu"]

class ExtBuilder(TorchOpBuilder):
    NAME = "ext"
    def sources(self): return ["csrc/ext.cpp"]
"""
SETUP = """
import sys; sys.path.insert(0, ".")
from setuptools import setup
from theirs import builders
kinds = [builders.OwnBuilder, builders.NamedBuilder, builders.ExtBuilder, {more}]
setup(name="theirs", version="1", packages=["theirs", "theirs.ops"],
      ext_modules=[kind().builder() for kind in kinds], {keywords})
"""
LOADS = """
import sys, site
for folder in sys.argv[1:]: site.addsitedir(folder)
from theirs import builders
own, named = builders.OwnBuilder(), builders.NamedBuilder()
assert own.is_compatible(), own.rungs()
print("own", own.load().rung, own.load().handle.own_value(), own.load().path)
print("named", named.load().rung, named.load().handle.own_value(), named.load().path)
ext = builders.ExtBuilder().load()
import theirs.ext
print("ext", ext is theirs.ext, ext.value())
assert own.load() is builders.OwnBuilder().load()
if "cuda" in sys.argv[0] or hasattr(builders, "WITH_CUDA"):
    gpu = builders.CudaBuilder().load()
    print("gpu", gpu.rung, gpu.handle.cuda_value(None), gpu.path)
"""


def make(folder: Path, *, keywords: str = "", cuda: bool = False) -> Path:
    """Write a package of somebody's with ops of its own."""
    package = folder / "theirs"
    (package / "csrc").mkdir(parents=True)
    (package / "ops").mkdir()
    for init in (package, package / "ops"):
        (init / "__init__.py").touch()
    (package / "builders.py").write_text(BUILDERS + ("WITH_CUDA = True\n" if cuda else ""))
    for name, text in {"own.cpp": CPP, "two.h": "#define TWO 2\n", "ext.cpp": MODULE}.items():
        (package / "csrc" / name).write_text(text)
    (package / "csrc" / "gpu.cu").write_text(CUDA)
    more = "builders.CudaBuilder" if cuda else ""
    (folder / "setup.py").write_text(SETUP.format(keywords=keywords, more=more))
    return folder


def call(folder: Path, *command: str, cxx: str = "") -> str:
    variables = {"PYTHONPATH": str(ROOT), "TORCH_CUDA_ARCH_LIST": "9.0"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **variables, **({"CXX": cxx} if cxx else {})},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def pip(folder: Path, *arguments: str) -> None:
    how = ("--quiet", "--no-build-isolation", "--no-deps", "--disable-pip-version-check")
    call(folder, "-m", "pip", *arguments, *how)


def wheel(folder: Path, into: Path) -> list[str]:
    """Build the package's wheel, unpack it into `into`, and return its files."""
    pip(folder, "wheel", "--wheel-dir", str(folder / "wheels"), ".")
    with zipfile.ZipFile(next((folder / "wheels").glob("*.whl"))) as file:
        file.extractall(into)
        return file.namelist()


def loads(site: Path, cxx: str) -> dict[str, list[str]]:
    (site.parent / "elsewhere").mkdir(exist_ok=True)
    said = call(site.parent / "elsewhere", "-c", LOADS, str(site), cxx=cxx)
    return {line.split()[0]: line.split()[1:] for line in said.splitlines()}


def test_a_wheel_without_sources_or_compiler_loads(tmp_path: Path) -> None:
    cuda = shutil.which("nvcc") is not None or Path("/usr/local/cuda/bin/nvcc").exists()
    project = make(tmp_path / "project", cuda=cuda)
    names = wheel(project, tmp_path / "site")
    assert not [name for name in names if "csrc" in name]
    found = loads(tmp_path / "site", cxx="/bin/false")
    package = tmp_path / "site" / "theirs"
    assert found["own"][:2] == ["prebuilt", "2"] and Path(found["own"][2]).parent == package
    assert found["named"][:2] == ["prebuilt", "2"]
    assert Path(found["named"][2]).parent == package / "ops"
    assert found["ext"] == ["True", "4"]
    if cuda:
        assert found["gpu"][:2] == ["prebuilt", "3"] and Path(found["gpu"][2]).parent == package


@pytest.mark.parametrize("own_class", [False, True])
def test_an_editable_install_loads_and_follows_its_sources(tmp_path: Path, own_class: bool) -> None:
    keywords = "cmdclass={'build_ext': __import__('accel').get_accelerator().build_extension()}"
    project = make(tmp_path / "project", keywords=keywords if own_class else "")
    pip(project, "install", "--prefix", str(tmp_path / "prefix"), "--editable", ".")
    (site,) = tmp_path.glob("prefix/lib/*/site-packages")
    found = loads(site, cxx="/bin/false")
    assert found["own"][:2] == ["prebuilt", "2"] and found["named"][0] == "prebuilt"
    assert Path(found["own"][2]).parent == project / "theirs"
    assert found["ext"] == ["True", "4"]
    (project / "theirs" / "csrc" / "two.h").write_text("#define TWO 22\n")
    assert loads(site, cxx="")["own"][:2] == ["jit", "22"]


def test_a_source_distribution_has_sources_and_headers(tmp_path: Path) -> None:
    project = make(tmp_path / "project")
    call(project, "setup.py", "-q", "sdist")
    with tarfile.open(next((project / "dist").glob("*.tar.gz"))) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"theirs/csrc/own.cpp", "theirs/csrc/two.h", "theirs/csrc/ext.cpp"} <= names


def test_a_builder_that_setup_py_defines_belongs_to_the_package_of_its_source(
    tmp_path: Path,
) -> None:
    project = make(tmp_path / "project")
    (project / "setup.py").write_text(
        "from pathlib import Path\n"
        "from setuptools import setup\n"
        "from op_builder import TorchOpBuilder\n"
        "class ExtBuilder(TorchOpBuilder):\n"
        "    NAME = 'ext'\n"
        "    def sources(self): return [str(Path('theirs/csrc/ext.cpp').absolute())]\n"
        "setup(name='theirs', version='1', packages=['theirs'],\n"
        "      ext_modules=[ExtBuilder().builder()])\n"
    )
    names = wheel(project, tmp_path / "site")
    assert any(name.startswith("theirs/ext.") for name in names)
    said = call(tmp_path / "site", "-c", "import torch, theirs.ext; print(theirs.ext.value())")
    assert said == "4\n"


def test_what_must_not_be_used_is_told(tmp_path: Path) -> None:
    wheel(make(tmp_path / "project"), tmp_path / "site")
    (file,) = (tmp_path / "site" / "theirs").glob("own.*")
    sound = file.read_bytes()
    ask = (
        "from theirs.builders import OwnBuilder\n"
        "from accel.errors import OpUnavailable\n"
        "print(OwnBuilder().is_compatible(), OwnBuilder().compatibility())\n"
        "try: OwnBuilder().load()\n"
        "except OpUnavailable as error: print(error)\n"
    )
    file.write_bytes(sound[:3000] + bytes([sound[3000] ^ 1]) + sound[3001:])
    said = call(tmp_path / "site", "-c", ask)
    assert said.startswith("False") and said.count("it is damaged") == 2
    assert "Install the package that it belongs to again" in said
    file.write_bytes(sound[:3000])
    assert call(tmp_path / "site", "-c", ask).count("is truncated: it has 3000 bytes") == 2
    file.write_bytes(b"no library")
    assert "as no ELF file does, not a shared library" in call(tmp_path / "site", "-c", ask)


def test_a_compiler_error_is_an_error_of_setuptools(tmp_path: Path) -> None:
    project = make(tmp_path / "project")
    (project / "theirs" / "csrc" / "own.cpp").write_text("int x = no_such_name;\n")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext"],
        cwd=project,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "own.cpp:1" in done.stderr and "no_such_name" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", op_builder.__op_builders__)
def test_accels_own_ops_are_not_built_by_others(name: str) -> None:
    with pytest.raises(OpUnavailable, match=r"accel compiles it on first use.*ext_modules"):
        getattr(op_builder, name)().builder()
