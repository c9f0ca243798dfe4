"""op_builder as installers and extensions written for DeepSpeed use it, with torch and without."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import accel
import op_builder
from accel.builders import cpu, cuda
from accel.errors import UnknownOp

ROOT = Path(__file__).parents[2]
NO_TORCH = """
import sys
from importlib.abc import MetaPathFinder
import importlib.util
class Gone(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name == "torch" else real(name, package))
sys.meta_path.insert(0, Gone())
"""


@pytest.fixture(autouse=True)
def on_cpu() -> None:
    accel.set_accelerator("cpu")


def python(code: str, **variables: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_with_torch_the_closure_is_the_class() -> None:
    assert op_builder.builder_closure("FusedAdamBuilder") is cpu.FusedAdamBuilder
    with accel.use_accelerator(accel.accelerator_for("cuda")):
        assert op_builder.builder_closure("FusedAdamBuilder") is cuda.FusedAdamBuilder
    with pytest.raises(UnknownOp, match="Did you mean 'FusedAdamBuilder'"):
        op_builder.builder_closure("FusedAdmaBuilder")


def test_its_modules_are_those_that_installers_import() -> None:
    from op_builder.all_ops import ALL_OPS, accelerator_name
    from op_builder.builder import CUDAOpBuilder, OpBuilder, TorchOpBuilder
    from op_builder.builder import get_default_compute_capabilities as capabilities

    assert (OpBuilder, CUDAOpBuilder) == (op_builder.OpBuilder, op_builder.CUDAOpBuilder)
    assert TorchOpBuilder is op_builder.TorchOpBuilder
    assert capabilities() == ""
    assert accelerator_name == "cpu"
    assert type(ALL_OPS["fused_adam"]) is cpu.FusedAdamBuilder
    assert {type(builder).__name__ for builder in ALL_OPS.values()} == {*op_builder.__op_builders__}
    assert all(name == builder.name == builder.NAME for name, builder in ALL_OPS.items())
    with accel.use_accelerator(accel.accelerator_for("cuda")):
        from op_builder.all_ops import ALL_OPS as ON_CUDA

        assert type(ON_CUDA["fused_adam"]) is cuda.FusedAdamBuilder


USE = """
import sys
from op_builder.builder import OpBuilder, CUDAOpBuilder, TorchOpBuilder
from op_builder.builder import get_default_compute_capabilities, installed_cuda_version
from op_builder.all_ops import ALL_OPS
names = {}
exec("from op_builder import *", names)
import op_builder
print(sorted(ALL_OPS) == sorted({builder.NAME for builder in ALL_OPS.values()}), len(ALL_OPS))
print({*op_builder.__op_builders__} <= {*names}, repr(get_default_compute_capabilities()))
print(type(names["FusedAdamBuilder"]).__name__, names["FusedAdamBuilder"]().NAME)
print(names["OpBuilder"] is OpBuilder, "builder_closure" in names)
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("torch", [True, False])
def test_all_of_it_works_without_torch(torch: bool) -> None:
    said = python(("" if torch else NO_TORCH) + USE, ACCELERATOR="cpu")
    count = len(op_builder.__op_builders__)
    kind = "type" if torch else "function"
    assert said[:4] == [f"True {count}", "True ''", f"{kind} fused_adam", "True True"]
    assert torch or said[4] == "False"


def test_importing_the_modules_does_nothing() -> None:
    code = "import sys, op_builder.builder, op_builder.all_ops, accel.current\n"
    code += "print(accel.current._selected, 'torch' in sys.modules)"
    assert python(code) == ["None False"]


def test_the_toolkit_is_told_or_missed() -> None:
    code = (
        "from op_builder import builder\n"
        "for ask in (builder.installed_cuda_version, builder.assert_no_cuda_mismatch):\n"
        "    try: print(ask('my_op'))\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    for line in python(code, CUDA_HOME="/nonexistent"):
        assert line.startswith("MissingCUDAException my_op: ") and "/nonexistent" in line


def test_a_builder_that_raises_is_not_compatible() -> None:
    from op_builder.builder import OpBuilder, probe_is_compatible

    class Raises(OpBuilder):
        NAME = "raises"

        def is_compatible(self, verbose: bool = False) -> bool:
            raise OSError("no driver")

    with pytest.warns(RuntimeWarning, match="raises cannot be asked.*no driver"):
        assert not probe_is_compatible(Raises())
    assert probe_is_compatible(cpu.FusedAdamBuilder())


DEEPSPEED = """
import sys
import op_builder.builder, op_builder.all_ops
exec("from op_builder import *", {})
import deepspeed
from deepspeed.accelerator import get_accelerator
from deepspeed.ops.op_builder import builder, all_ops
homes = {type(one).__module__.partition(".")[0] for one in all_ops.ALL_OPS.values()}
theirs = [type(one) for one in all_ops.ALL_OPS.values() if "deepspeed.ops" in type(one).__module__]
mixed = [one for one in theirs for kind in one.__mro__ if kind.__module__.startswith("accel")]
assert theirs
print(sorted(homes), hasattr(op_builder, "__deepspeed__"), bool(mixed))
"""


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.parametrize("backend", ["cpu", "cuda"])
@pytest.mark.parametrize("mode", ["0", "1"])
def test_deepspeed_takes_nothing_from_the_modules(backend: str, mode: str) -> None:
    """With the modules imported first, which is as far as they can get in its way."""
    said = python(DEEPSPEED, DS_ACCELERATOR=backend, ACCEL_DEEPSPEED=mode, ACCELERATOR="cpu")[-1]
    homes = ["accel", "deepspeed"] if mode == "1" else ["deepspeed"]
    assert said == f"{homes} False False"
