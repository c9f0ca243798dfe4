"""Facts about nvcc belong to the one that answers now; lists of architectures are read rightly."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.jit.tools import compilers, nvcc
from accel.jit.tools.compiler import Compiler, Unanswered
from accel.nvidia.arch_plan import ArchPlan, plan_archs
from accel.probe import Rejected

ANSWERS = """#!/bin/sh
echo x >> "{folder}/asked"
case "$1" in
  --version) echo 'Cuda compilation tools, release {release}, V{release}.7' ;;
  --list-gpu-arch) {listed} ;;
  --dryrun) echo '#$ _SPACE_= '; echo '#$ _HERE_={folder}/bin' ;;
  *) exit 1 ;;
esac
"""


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> None:
    monkeypatch.setattr(compilers, "_known", {})


def toolkit(folder: Path, release: str, listed: str = "echo compute_90") -> Path:
    """A folder whose nvcc answers as one of that release."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "bin/nvcc").write_text(ANSWERS.format(folder=folder, release=release, listed=listed))
    (folder / "bin/nvcc").chmod(0o755)
    return folder


def launcher(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def found() -> Compiler:
    compiler = compilers.find_nvcc()
    assert isinstance(compiler, Compiler), compiler
    return compiler


@pytest.mark.parametrize("text", ['exec "$CUDA_ROOT/bin/nvcc" "$@"', '"$CUDA_ROOT"/bin/nvcc "$@"'])
def test_a_launcher_is_asked_which_nvcc_it_runs_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    first, second = toolkit(tmp_path / "a", "12.4"), toolkit(tmp_path / "b", "13.0")
    wrapper = launcher(tmp_path / "nvcc", text)
    monkeypatch.setenv("NVCC", str(wrapper))
    facts = []
    for folder in (first, second, first):
        monkeypatch.setenv("CUDA_ROOT", str(folder))
        facts.append(found())
        assert (facts[-1].root, facts[-1].command) == (str(folder), (str(wrapper),))
    assert [one.version for one in facts] == ["12.4.7", "13.0.7", "12.4.7"]
    assert facts[0].identity != facts[1].identity
    assert list(tmp_path.glob("cache/.toolchains/*")) == []


def test_a_script_that_names_two_toolkits_is_not_guessed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit(tmp_path / "old", "12.4")
    new = toolkit(tmp_path / "new", "13.0")
    text = f'[ -n "$OLD" ] && exec {tmp_path}/old/bin/nvcc "$@"\nexec {new}/bin/nvcc "$@"'
    monkeypatch.setenv("NVCC", str(launcher(tmp_path / "nvcc", text)))
    assert (found().version, found().root) == ("13.0.7", str(new))


@pytest.mark.parametrize(
    "trouble", ["kill -9 $$", "echo 'cicc: out of memory'; exit 1", "exit 127"]
)
def test_an_nvcc_that_fails_to_list_is_not_taken_for_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    folder = toolkit(tmp_path / "kit", "13.0", trouble)
    monkeypatch.setenv("NVCC", str(folder / "bin/nvcc"))
    answer = compilers.find_nvcc()
    assert isinstance(answer, Unanswered)
    assert "--list-gpu-arch" in answer.reason
    monkeypatch.setattr(compilers, "_known", {})
    toolkit(folder, "13.0")
    assert found().machine == "9.0"


@pytest.mark.parametrize("listed", ["echo compute_90", "kill -9 $$", "exit 1"])
def test_it_is_asked_once_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    folder = toolkit(tmp_path / "kit", "13.0", listed)
    monkeypatch.setenv("NVCC", str(folder / "bin/nvcc"))
    compilers.find_nvcc()
    before = (folder / "asked").read_text()
    compilers.find_nvcc()
    assert (folder / "asked").read_text() == before


def test_a_link_to_a_program_that_goes_by_its_name_is_called_by_it(tmp_path: Path) -> None:
    """As ``/usr/lib/ccache/nvcc``, a link to ccache."""
    program = launcher(tmp_path / "ccache", "exit 1")
    link = tmp_path / "nvcc"
    link.symlink_to(program)
    assert nvcc._location(link, "PATH").path == link


@pytest.mark.parametrize(
    ("requested", "toolkit", "targets", "notes"),
    [
        ("all", (12, 0), "5.0;5.2;5.3;6.0;6.1;6.2;7.0;7.2;7.5;8.0;8.6;8.7;8.9;9.0+PTX", ()),
        ("all-major", (13, 0), "7.5;8.0;9.0;10.0;11.0;12.0+PTX", ()),
        ("ALL-MAJOR;8.6", (13, 0), "7.5;8.0;8.6;9.0;10.0;11.0;12.0+PTX", ()),
        ("10.1", (13, 0), "11.0+PTX", ("10.1: nvcc 13.0 calls it 11.0.",)),
        ("10.1a;9.0", (13, 0), "9.0+PTX;11.0a", ("10.1a: nvcc 13.0 calls it 11.0a.",)),
        ("11.0", (12, 8), "10.1+PTX", ("11.0: nvcc 12.8 calls it 10.1.",)),
        ("10.1;11.0", (13, 0), "11.0+PTX", ("10.1: nvcc 13.0 calls it 11.0.",)),
        ("Blackwell+Tegra", (12, 9), "10.1+PTX", ("11.0: nvcc 12.9 calls it 10.1.",)),
    ],
)
def test_all_and_renamed_architectures(
    requested: str, toolkit: tuple[int, int], targets: str, notes: tuple[str, ...]
) -> None:
    plan = plan_archs(requested, toolkit=toolkit)
    assert isinstance(plan, ArchPlan), plan
    assert str(plan) == targets
    assert plan.dropped == notes


@pytest.mark.parametrize(
    ("entry", "meant"),
    [("sm_90", "9.0"), ("90", "9.0"), ("compute_100a", "10.0a"), ("86-real", "8.6")],
)
def test_the_spellings_of_others_are_understood_in_the_message(entry: str, meant: str) -> None:
    plan = plan_archs(entry, toolkit=(13, 0))
    assert isinstance(plan, Rejected)
    assert f"Did you mean '{meant}'?" in plan.reason


def test_a_compiler_for_another_machine_is_named_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++ -U__x86_64__ -U__aarch64__ -D__riscv")
    answer = compilers.find_cxx()
    assert isinstance(answer, Rejected)
    assert "compiles for riscv, and this process runs on" in answer.reason
    assert "another machine" not in answer.reason
    assert "Set CXX to a compiler for this machine" in answer.fix
