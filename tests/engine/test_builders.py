"""Builders on a real compiler: rungs, policies, and what is kept in a process."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import accel
from accel.builders.base import OpBuilder
from accel.builders.cpu import CPUAdamBuilder, FusedAdamBuilder
from accel.builders.kinds import CPUOpBuilder
from accel.errors import BuildFailed, InvalidSetting, OpUnavailable


@pytest.fixture(autouse=True)
def forget_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpBuilder, "_loaded", {})
    monkeypatch.setattr("accel.builders.choosing._warned", set())
    accel.set_accelerator("cpu")


def step(op: object) -> torch.Tensor:
    lists = [[torch.full((5,), value)] for value in (0.5, 1.0, 0.0, 0.0)]
    op.multi_tensor_adam(2048, None, lists, 0.1, 0.9, 0.99, 1e-8, 1, 1, 1, 0.1)  # type: ignore[attr-defined]
    return lists[1][0]


def test_an_op_is_compiled_once_and_kept() -> None:
    op = FusedAdamBuilder().load()
    assert op.implementation == "jit"
    assert op.path.is_file() and op.digest in str(op.path)
    assert FusedAdamBuilder().load() is op
    assert CPUAdamBuilder().load().path == op.path, "ops of one source share one library"


def test_two_backends_never_share_an_object() -> None:
    on_cpu = FusedAdamBuilder().load()
    on_cuda = accel.accelerator_for("cuda").create_op_builder("FusedAdamBuilder")
    assert on_cuda.rungs()[-1][1]
    assert type(on_cuda).load is not None
    assert on_cpu.backend == "cpu"
    assert accel.accelerator_for("hpu").create_op_builder("FusedAdamBuilder").load() is not on_cpu


def test_reference_policy_compiles_nothing(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEL_OPS", "reference")
    op = FusedAdamBuilder().load()
    assert (op.implementation, op.digest, op.path) == ("reference", None, None)
    assert list(cache_dir.iterdir()) == []


def test_both_rungs_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    native = step(FusedAdamBuilder().load())
    monkeypatch.setenv("ACCEL_OPS", "reference")
    torch.testing.assert_close(step(FusedAdamBuilder().load()), native)


def test_without_a_compiler_the_reference_is_taken_with_one_warning(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/c++")
    with pytest.warns(RuntimeWarning, match="/nonexistent/c\\+\\+") as caught:
        op = FusedAdamBuilder().load()
    assert len(caught) == 1
    assert op.implementation == "reference"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FusedAdamBuilder().load() is op
    monkeypatch.setenv("ACCEL_OPS", "native")
    assert not FusedAdamBuilder().is_compatible()
    with pytest.raises(OpUnavailable, match="/nonexistent/c\\+\\+"):
        FusedAdamBuilder().load()


class Broken(CPUOpBuilder):
    """A source that does not compile."""

    NAME = "broken"
    op = "accel.ops.optimizers.adam:FusedAdam"

    def sources(self) -> list[str]:
        return ["broken.cpp"]


def test_a_failing_compiler_is_named_with_its_first_error(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.cpp").write_text("int x = 1;\nint y = no_such_name;\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BuildFailed) as caught:
        Broken().jit_load()
    assert "broken.cpp:2" in caught.value.first_error
    assert "no_such_name" in str(caught.value)
    assert caught.value.log_path and Path(caught.value.log_path).is_file()
    with pytest.warns(RuntimeWarning, match="no_such_name"):
        assert Broken().load().implementation == "reference"


class Plain(OpBuilder):
    """Overrides what DeepSpeed's builders override, and nothing else."""

    BUILD_VAR = "DS_BUILD_PLAIN"
    NAME = "plain"

    def __init__(self) -> None:
        super().__init__(name=self.NAME)

    def absolute_name(self) -> str:
        return f"my.ops.{self.NAME}_op"

    def sources(self) -> list[str]:
        return ["plain.cpp"]

    def include_paths(self) -> list[str]:
        return ["headers"]

    def cxx_args(self) -> list[str]:
        return ["-O2", "-DANSWER=40"]


def test_a_subclass_that_overrides_three_methods_works(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "two.h").write_text("#define TWO 2\n")
    (tmp_path / "plain.cpp").write_text(
        '#include "two.h"\n'
        'extern "C" __attribute__((visibility("default"))) int answer() { return ANSWER + TWO; }\n'
    )
    monkeypatch.chdir(tmp_path)
    library = Plain().load()
    assert library.handle.answer() == 42
    extension = Plain().builder()
    assert extension.name == "my.ops.plain_op"
    assert extension.sources == ["plain.cpp"]


def test_a_source_that_is_missing_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"'plain\.cpp' is neither in"):
        Plain().load()
    assert not Plain().is_compatible()
    with pytest.warns(RuntimeWarning, match=r"plain\.cpp"):
        Plain().is_compatible(verbose=True)


def test_a_simd_level_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_CPU_TARGET", "avx1024")
    code = "from accel.builders.cpu import FusedAdamBuilder; FusedAdamBuilder().load()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]
    assert said.startswith("accel.errors.InvalidSetting: ACCEL_CPU_TARGET is 'avx1024'")
    assert "baseline" in said


def test_an_unknown_policy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_OPS", "fastest")
    with pytest.raises(InvalidSetting, match="ACCEL_OPS='fastest'") as caught:
        FusedAdamBuilder().load()
    assert isinstance(caught.value, ValueError)
