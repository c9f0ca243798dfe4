"""A user's torch extension through the engine; headers known only from the compiler's report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_tools import SOURCE, Workshop

from accel import jit
from accel.builders.torch_extension import TorchOpBuilder
from accel.errors import BuildFailed
from accel.jit.tools.torch_extension import torch_facts, torch_recipe

EXTENSION = """#include <torch/extension.h>
#include "factor.h"
torch::Tensor scaled(torch::Tensor x) { return x * FACTOR; }
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("scaled", &scaled, "FACTOR times"); }
TORCH_LIBRARY(engine_test, m) { m.def("scaled(Tensor x) -> Tensor", &scaled); }
"""
PLAIN = """#include <Python.h>
#include "factor.h"
static PyObject *factor(PyObject *, PyObject *) { return PyLong_FromLong(FACTOR); }
static PyMethodDef methods[] = {{"factor", factor, METH_NOARGS, ""}, {}};
#define NAME_(name) PyInit_##name
#define NAME(name) NAME_(name)
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "plain", "", -1, methods};
PyMODINIT_FUNC NAME(TORCH_EXTENSION_NAME)() { return PyModule_Create(&definition); }
"""


@pytest.fixture
def project(tmp_path: Path, cache_dir: Path) -> Path:
    """A folder with a header and two extensions."""
    (tmp_path / "factor.h").write_text("#define FACTOR 3\n")
    (tmp_path / "extension.cpp").write_text(EXTENSION)
    (tmp_path / "plain.cpp").write_text(PLAIN)
    return tmp_path


def builder(project: Path, source: str, **attributes: object) -> TorchOpBuilder:
    body = {
        "NAME": f"engine_test_{source}",
        "sources": lambda self: [str(project / f"{source}.cpp")],
        "include_paths": lambda self: [str(project)],
    }
    return type("MyBuilder", (TorchOpBuilder,), body | attributes)()


LATER = """
import sys, json
from pathlib import Path
from accel.jit import acquire
from accel.jit.tools.torch_extension import torch_recipe
import torch
project = Path(sys.argv[1])
recipe = torch_recipe("engine_test_extension", "cpu", [project / "extension.cpp"],
                      include_dirs=[project], cxx_flags=["-O0"])
library = acquire(recipe)
module = library.load_module()
assert torch.equal(torch.ops.engine_test.scaled(torch.ones(2)), torch.full((2,), 3.0))
print(json.dumps([str(library.path), module.scaled(torch.ones(1)).item()]))
"""


def test_an_extension_loads_unchanged(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One compile of torch's headers, some 25 s: everything about it is asked here."""
    import json

    import torch

    made = builder(project, "extension", cxx_args=lambda self: ["-O0"])
    module = made.load()
    assert torch.equal(module.scaled(torch.ones(2)), torch.full((2,), 3.0))
    assert torch.equal(torch.ops.engine_test.scaled(torch.ones(2)), torch.full((2,), 3.0))
    assert made.load() is module
    library = jit.acquire(made.recipe())
    headers = library.manifest["headers"]
    assert any(path.endswith("torch/extension.h") for path in headers)
    assert any(path.endswith("/Python.h") for path in headers)
    assert library.manifest["ingredients"]["identity torch"].startswith(torch.__version__)
    # Another process finds it, and without a compiler too.
    for variables in ({}, {"CXX": "/bin/false"}):
        done = subprocess.run(
            [sys.executable, "-c", LATER, str(project)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [str(library.path), 3.0]


def test_a_module_is_named_and_kept_by_digest(project: Path) -> None:
    first = builder(project, "plain").load()
    assert first.factor() == 3
    assert first.__spec__.name == "engine_test_plain"
    (project / "factor.h").write_text("#define FACTOR 4\n")
    second = builder(project, "plain").load()
    assert (first.factor(), second.factor()) == (3, 4)
    assert builder(project, "plain").load() is second


def test_a_library_without_a_module(project: Path) -> None:
    (project / "plain.cpp").write_text('extern "C" int value() { return 5; }\n')
    library = builder(project, "plain", python_module=False).load()
    assert library.handle.value() == 5
    with pytest.raises(ImportError):
        library.load_module()


def test_an_extension_that_does_not_compile(project: Path) -> None:
    (project / "plain.cpp").write_text("#error reason\n")
    with pytest.raises(BuildFailed, match=r"plain\.cpp:1:2: error: (#error )?reason"):
        builder(project, "plain").load()


def test_torch_is_looked_at_and_not_imported(project: Path) -> None:
    import torch

    facts = torch_facts()
    assert facts.version == torch.__version__
    assert torch.version.git_version in facts.build
    assert facts.cxx11_abi == str(int(torch.compiled_with_cxx11_abi()))
    check = (
        "import sys; from pathlib import Path; from accel import jit;"
        "from accel.jit.tools.torch_extension import torch_recipe;"
        f"jit.availability(torch_recipe('x', 'cpu', [Path({str(project / 'plain.cpp')!r})]));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=Path(__file__).parents[2])


def test_cuda_sources_make_a_cuda_recipe(project: Path) -> None:
    recipe = torch_recipe("x", "cuda", [project / "a.cpp", project / "b.cu"], cxx_flags=["-DA"])
    assert recipe.language == "cuda"
    assert "-DA" in recipe.host_flags
    assert "-DA" not in recipe.compile_flags
    assert "-ltorch_cuda" in recipe.link_flags


def test_headers_of_the_system_are_rechecked_by_contents(workshop: Workshop) -> None:
    system = workshop.folder / "system"
    system.mkdir()
    header = system / "value_of.h"
    header.write_text("#define VALUE 5\n")
    workshop.source.write_text(SOURCE.replace('"value.h"', "<value_of.h>"))
    folders = {"system_include_dirs": [str(system)]}
    assert workshop.load(more=folders)["value"] == 5
    header.touch()
    assert workshop.load(more=folders)["value"] == 5
    assert workshop.compiles() == 1
    header.write_text("#define VALUE 6\n")
    assert workshop.load(more=folders)["value"] == 6
    header.unlink()
    assert workshop.load(more=folders)["error"] == "BuildFailed"
