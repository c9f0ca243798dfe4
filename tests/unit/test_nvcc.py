"""Finding nvcc, and judging it: with folders and stand-in commands, no compiler."""

import sys
from pathlib import Path

import pytest

import accel.current  # noqa: F401 - the tests hide where it could be imported from
from accel.jit.tools import nvcc
from accel.nvidia.driver import Driver
from accel.probe import Accepted, Rejected

NO_DRIVER = Rejected("No usable NVIDIA driver.")


def toolkit(folder: Path, *, release: str = "12.4.131", archs: str = "") -> Path:
    """Make a folder with a command that answers as nvcc does."""
    (folder / "bin").mkdir(parents=True)
    command = folder / "bin/nvcc"
    listed = "\\n".join(f"compute_{arch}" for arch in archs.split())
    command.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --version ] && printf "release 12.4, V{release}\\n" && exit 0\n'
        + (f'printf "{listed}\\n"\n' if archs else 'echo "unknown option" >&2; exit 1\n')
    )
    command.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """Hide this machine's own nvcc; the shell that the stand-ins need stays."""
    monkeypatch.setattr(nvcc, "USUAL", tmp_path / "usual")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)


def test_nothing_anywhere_says_where_it_looked():
    answer = nvcc.locate()
    assert isinstance(answer, Rejected)
    assert "CUDA_HOME" in answer.reason and "pip install nvidia-cuda-nvcc" in answer.fix
    assert nvcc.find() == answer


def test_places_are_tried_in_order(monkeypatch, tmp_path):
    toolkit(tmp_path / "usual")
    assert nvcc.locate().origin == str(tmp_path / "usual")
    monkeypatch.setenv("PATH", str(toolkit(tmp_path / "path") / "bin"))
    assert nvcc.locate().origin == "PATH"
    monkeypatch.setenv("CUDA_HOME", str(toolkit(tmp_path / "home")))
    assert nvcc.locate().root == tmp_path / "home"
    monkeypatch.setenv("NVCC", str(toolkit(tmp_path / "own") / "bin/nvcc"))
    assert nvcc.locate().root == tmp_path / "own"


@pytest.mark.parametrize("variable", ["NVCC", "CUDA_HOME"])
def test_a_variable_that_leads_nowhere_is_an_answer(monkeypatch, tmp_path, variable):
    toolkit(tmp_path / "usual")
    monkeypatch.setenv(variable, "/no/such/place")
    answer = nvcc.locate()
    assert isinstance(answer, Rejected)
    assert variable in answer.reason and "/no/such/place" in answer.reason


def test_a_wrapper_script_is_followed_to_its_toolkit(monkeypatch, tmp_path):
    real = toolkit(tmp_path / "real")
    wrapper = tmp_path / "bin/nvcc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {real}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper.parent))
    assert nvcc.locate() == nvcc.Location(real / "bin/nvcc", real, "PATH")


def test_the_packages_are_found_and_what_they_lack_is_named(tmp_path):
    root = toolkit(tmp_path / "site/nvidia/cu13")
    answer = nvcc.locate()
    assert isinstance(answer, Rejected)
    assert "nvidia-cuda-runtime" in answer.fix and "nvidia-nvvm" in answer.fix
    for name in ("include/cuda_runtime.h", "include/crt/host_config.h", "nvvm/bin/cicc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "lib").mkdir()
    found = nvcc.locate()
    assert found.root == root
    assert nvcc.library_flags(found.root) == (f"-L{root}/lib",)


def test_the_version_is_read_from_files(tmp_path):
    root = toolkit(tmp_path / "usual")
    location = nvcc.locate()
    assert nvcc.toolkit_version(location) is None
    header = root / "targets/x86_64-linux/include/cuda.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define CUDA_API\n#define CUDA_VERSION 12080\n")
    assert nvcc.toolkit_version(location) == (12, 8)
    (root / "version.json").write_text('{"cuda_nvcc": {"version": "11.8.89"}}')
    assert nvcc.toolkit_version(location) == (11, 8)
    (root / "version.json").write_text("[broken")
    assert nvcc.toolkit_version(location) == (12, 8)


def test_release_and_architectures_are_asked_of_nvcc(tmp_path):
    toolkit(tmp_path / "usual", archs="90 100 75 90a")
    found = nvcc.find()
    assert (found.version, found.release) == ((12, 4), "12.4.131")
    assert found.archs == ("7.5", "9.0", "10.0")


def test_the_table_stands_in_for_an_nvcc_that_lists_nothing(tmp_path):
    toolkit(tmp_path / "usual", release="11.1.105")
    assert nvcc.find().archs[-1] == "8.6"


def test_answers_are_remembered_until_the_file_changes(tmp_path):
    root = toolkit(tmp_path / "usual", archs="80")
    assert nvcc.find().release == "12.4.131"
    command = root / "bin/nvcc"
    command.write_text(command.read_text().replace("12.4.131", "12.4.99"))
    assert nvcc.find().release == "12.4.99"


@pytest.mark.parametrize(
    ("script", "words"),
    [("exit 3", "exited with 3"), ("echo clang version 19", "not an nvcc")],
)
def test_a_command_that_is_no_nvcc_is_rejected(tmp_path, script, words):
    root = toolkit(tmp_path / "usual")
    (root / "bin/nvcc").write_text(f"#!/bin/sh\n{script}\n")
    answer = nvcc.find()
    assert isinstance(answer, Rejected)
    assert words in answer.reason


@pytest.mark.parametrize(
    ("need", "have", "fits"),
    [
        ((12, 4), (12, 2), True),
        ((11, 8), (12, 2), True),
        ((12, 9), (13, 0), True),
        ((13, 0), (12, 9), False),
    ],
)
def test_a_toolkit_of_a_newer_major_release_than_the_driver_is_rejected(need, have, fits):
    answer = nvcc.fits_driver(need, Driver("550.54.15", have))
    assert bool(answer) is fits
    if not fits:
        assert "13.0" in answer.reason and "12.9" in answer.reason and "550.54.15" in answer.reason


def test_without_a_driver_a_build_is_for_another_machine():
    assert isinstance(nvcc.fits_driver((13, 0), NO_DRIVER), Accepted)
