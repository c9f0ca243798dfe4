"""DeepSpeed, unmodified, in processes of its own: on our ops where asked, untouched otherwise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "deepspeed_offload.py"
pytestmark = [
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed"),
    pytest.mark.timeout(600),
]
PAGE = ROOT / "docs" / "deepspeed-ops.md"
OPTIMIZERS = ("CPUAdagrad", "CPUAdam", "CPULion", "FusedAdam", "FusedLamb", "FusedLion")
OTHERS = ("FPQuantizer", "Quantizer", "RandomLTD", "Utils")
OURS = {f"{name}Builder" for name in (*OPTIMIZERS, *OTHERS)}
THEIRS = {
    "cpu": {"CCLCommBuilder", "ShareMemCommBuilder"},
    "cuda": {"DeepCompileBuilder", "EvoformerAttnBuilder"},
}
CLASSES = """
import json, sys
import deepspeed
import deepspeed.ops.op_builder as reflected
from deepspeed.accelerator import get_accelerator
import op_builder
homes = {}
for name in json.loads(sys.argv[1]):
    kind = get_accelerator().get_op_builder(name)
    made = get_accelerator().create_op_builder(name)
    assert type(made) is kind, (type(made), kind)
    assert getattr(reflected, name) is kind, (getattr(reflected, name), kind)
    ours = kind.__module__ == "accel.integrations.deepspeed"
    homes[name] = (kind.__mro__[1] if ours else kind).__module__
print("RESULT", json.dumps([get_accelerator()._name, homes, hasattr(op_builder, "__deepspeed__"),
                            "accel.integrations.deepspeed" in sys.modules]))
"""
# DeepSpeed would compile a library for collectives first, which takes a minute and is not what
# these tests are about.
QUICK = """
import runpy, sys
import deepspeed
collectives = sys.modules["deepspeed.comm.torch"]
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = True
collectives.build_shm_op = lambda: print("DeepSpeed compiles")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*command: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout


def classes(backend: str, **variables: str) -> tuple[str, dict[str, str], bool, bool]:
    names = json.dumps(sorted(OURS | THEIRS[backend]))
    said = run("-c", CLASSES, names, DS_ACCELERATOR=backend, **variables)
    line = next(line for line in said.splitlines() if line.startswith("RESULT "))
    name, homes, flagged, bridged = json.loads(line.removeprefix("RESULT "))
    return name, homes, flagged, bridged


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_in_the_mode_every_builder_is_whose_it_should_be(backend: str) -> None:
    name, homes, flagged, bridged = classes(backend, ACCEL_DEEPSPEED="1")
    assert name == backend and not flagged and bridged
    for builder in OURS:
        assert homes[builder].startswith("accel.builders."), (builder, homes[builder])
    for builder in THEIRS[backend]:
        assert homes[builder].startswith("deepspeed."), (builder, homes[builder])


def test_without_the_variable_deepspeed_is_untouched() -> None:
    _, homes, flagged, bridged = classes("cpu")
    assert not flagged and not bridged
    assert all(home.startswith("deepspeed.") for home in homes.values()), homes


def test_its_quantizer_of_weights_runs_in_the_mode() -> None:
    said = run(
        "-c",
        "import torch\n"
        "from deepspeed.linear.config import QuantizationConfig\n"
        "from deepspeed.ops.fp_quantizer import FP_Quantize, quantize\n"
        "x = torch.randn(8, 4, 128, dtype=torch.bfloat16)\n"
        "for bits, bound in ((12, 0.003), (8, 0.04), (6, 0.08), (4, 0.2)):\n"
        "    made = FP_Quantize(QuantizationConfig(q_bits=bits, group_size=128))\n"
        "    coded = made.quantize(x, q_bits=bits)\n"
        "    back = made.dequantize(coded, q_bits=bits)\n"
        "    assert (back - x).float().norm() < bound * x.float().norm(), bits\n"
        "    at = torch.tensor([5, 0], dtype=torch.int32)\n"
        "    some = made.selective_dequantize(coded, at, q_bits=bits)\n"
        "    assert torch.equal(some, back[[5, 0]])\n"
        "data, scale = made.quantize(x, return_meta_tensor=True)\n"
        "assert (made.dequantize(data, scale=scale) - x).float().norm() < 0.04 * x.float().norm()\n"
        "assert made.get_scales().shape == (32, 1)\n"
        "print(quantize.fp_quant_module)\n",
        DS_ACCELERATOR="cpu", ACCEL_DEEPSPEED="1",
    )  # fmt: skip
    assert "<fp_quantizer for cpu: jit>" in said


@pytest.mark.parametrize("accelerator", ["cuda", "cpu"])
def test_the_bridge_keeps_the_facts_of_their_builder(accelerator: str) -> None:
    run(
        "-c",
        "import deepspeed\n"
        "from deepspeed.ops.op_builder import FPQuantizerBuilder as kind\n"
        "assert kind.__module__ == 'accel.integrations.deepspeed'\n"
        "assert kind.get_quant_range(6) == 28\n"
        "assert str(kind.get_default_quant_dtype()) == 'torch.uint8'\n",
        DS_ACCELERATOR=accelerator, ACCEL_DEEPSPEED="1",
    )  # fmt: skip


def test_its_report_runs_in_the_mode() -> None:
    said = run(
        "-c", "from deepspeed.env_report import cli_main; cli_main()",
        DS_ACCELERATOR="cpu", ACCEL_DEEPSPEED="1",
    )  # fmt: skip
    # What DeepSpeed has no builder for on this accelerator is listed, too.
    for name in ("cpu_adam", "fused_lion", "utils"):
        (row,) = (line for line in said.splitlines() if line.startswith(f"{name} "))
        assert "OKAY" in row


def test_another_accelerator_keeps_its_ops_and_is_told_once() -> None:
    said = run(
        "-c",
        "import types, sys, warnings\n"
        "real = types.ModuleType('deepspeed.accelerator.real_accelerator')\n"
        "class Meta:\n"
        "    _name = 'klxpu'\n"
        "    def get_op_builder(self, name): return name\n"
        "real.ds_accelerator = Meta()\n"
        "sys.modules[real.__name__] = real\n"
        "import op_builder\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    for _ in range(3): hasattr(op_builder, '__deepspeed__')\n"
        "print(len(seen), seen[0].message, real.ds_accelerator.get_op_builder('CPUAdamBuilder'))\n",
        ACCEL_DEEPSPEED="1",
    )
    assert said.startswith("1 ACCEL_DEEPSPEED=1: DeepSpeed's accelerator is 'klxpu'")
    assert said.strip().endswith("CPUAdamBuilder")


def test_the_table_of_whose_ops_are_used() -> None:
    script = str(ROOT / "tests" / "support" / "deepspeed_table.py")
    said = run(script, DS_ACCELERATOR="cpu", ACCEL_DEEPSPEED="1")
    found = [line for line in said.splitlines() if line.startswith("|")]
    page = PAGE.read_text().partition("\n## ")[0]
    told = [line for line in page.splitlines() if line.startswith("|")]
    assert found == told, f"{PAGE.name} is old; {said}"
    owners = {line.split("|")[1].strip(" `"): set(line.split("|")[2:-1]) for line in told[2:]}
    assert all(" accel " in owners[name] for name in OURS)
    assert {" accel ", " DeepSpeed ", " – "} <= set.union(*owners.values())


WHERE_DEEPSPEED_HAS_NONE = """
import torch
import deepspeed
from deepspeed.ops.lamb import FusedLamb
from deepspeed.ops.lion import DeepSpeedCPULion, FusedLion
from deepspeed.ops.op_builder import FusedLambBuilder, FusedLionBuilder, UtilsBuilder
for builder in (FusedLambBuilder, FusedLionBuilder, UtilsBuilder):
    assert deepspeed.ops.__compatible_ops__[builder.NAME] is True, builder
assert UtilsBuilder.NAME in deepspeed.ops.op_builder.all_ops.ALL_OPS

cast = UtilsBuilder().load().cast_to_byte_tensor
assert cast(torch.ones(1)).tolist() == [0, 0, 128, 63]
kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64)
many = [torch.arange(9).to(kind) for kind in kinds]
for one, whole in zip(cast(many), many, strict=True):
    assert one.dtype == torch.uint8 and one.data_ptr() == whole.data_ptr()
    assert one.numel() == whole.nbytes and torch.equal(one.view(whole.dtype), whole)

# The optimizer over lists steps as the one of the host does, whatever the type.
for kind in (torch.float32, torch.bfloat16, torch.float16):
    start = torch.linspace(-2, 2, 1031).to(kind)
    params = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    # Its moments on the host are float32 unless that is told.
    host = DeepSpeedCPULion(params[:1], lr=1e-2, fp32_optimizer_states=False)
    lists = FusedLion(params[1:], lr=1e-2)
    for seed in range(5):
        grad = torch.randn(1031, generator=torch.Generator().manual_seed(seed)).to(kind)
        for param, optimizer in zip(params, (host, lists), strict=True):
            param.grad = grad.clone()
            optimizer.step()
    assert torch.equal(*params) and not torch.equal(params[0], start), kind

# DeepSpeed's layers with tokens dropped, and their derivatives.
from deepspeed.ops.random_ltd import dropping_utils as ltd
ids, mask = ltd.bert_sample_tokens(5, 12, 3, layers=2, attn_mask=torch.rand(3, 1, 12, 12))
assert ids.dtype == torch.int32 and torch.equal(ids, ids.sort(-1).values)
tokens = torch.randn(3, 12, 8, dtype=torch.float64, requires_grad=True)
for first in (True, False):
    given = tokens if first else tokens.transpose(0, 1).contiguous()
    everything, some = ltd.GatherTokens.apply(given, ids[0], first)
    result = ltd.ScatterTokens.apply(everything, some * 3, ids[0], first)
    kept = torch.zeros(3, 12, 1, dtype=torch.bool).scatter_(1, ids[0].long().unsqueeze(-1), True)
    wanted = torch.where(kept, tokens * 3, tokens)
    assert torch.equal(result if first else result.transpose(0, 1), wanted)
    result.square().sum().backward()

param = torch.nn.Parameter(torch.ones(300))
lamb = FusedLamb([param], lr=1e-2)
for _ in range(3):
    param.grad = torch.linspace(1, 2, 300)
    lamb.step()
assert param.isfinite().all() and (param < 1).all() and len(lamb.get_lamb_coeffs()) == 1
print("done")
"""


def test_where_deepspeed_has_no_op() -> None:
    said = run("-c", WHERE_DEEPSPEED_HAS_NONE, DS_ACCELERATOR="cpu", ACCEL_DEEPSPEED="1")
    assert said.splitlines()[-1] == "done"


def test_what_ours_lacks_comes_from_theirs() -> None:
    said = run(
        "-c",
        "import deepspeed\n"
        "from accel.integrations.deepspeed import ForwardingOp, Owners\n"
        "class Op:\n"
        "    functions = ('adam_update',)\n"
        "    implementation = 'jit'\n"
        "    adam_update = 'ours'\n"
        "    zenflow_adam_create = 'ours, wrongly'\n"
        "class Theirs:\n"
        "    adam_update = zenflow_adam_create = 'theirs'\n"
        "op = ForwardingOp(Op(), Owners(Theirs))\n"
        "print(op.adam_update, op.implementation, op.zenflow_adam_create, op.adam_update)\n",
    )
    assert said.splitlines()[-1] == "ours jit theirs theirs"


def losses(said: str) -> list[float]:
    return [float(found) for found in re.findall(r"loss (\d+\.\d+)", said)]


def test_zero_2_with_offload_trains_on_our_adam(tmp_path: Path) -> None:
    quick = tmp_path / "quick.py"
    quick.write_text(QUICK)
    said = run(
        str(quick), str(EXAMPLE), "--steps", "40",
        DS_ACCELERATOR="cpu", ACCEL_DEEPSPEED="1", MASTER_PORT="29513",
    )  # fmt: skip
    assert "op from jit" in said
    # Before DeepSpeed compiles for a minute, the example says so.
    assert said.index("DeepSpeed loads its shm_comm") < said.index("DeepSpeed compiles\n")
    found = losses(said)
    assert len(found) == 40
    assert sum(found[-5:]) < 0.9 * sum(found[:5])


def test_zero_3_with_states_and_parameters_in_files(tmp_path: Path) -> None:
    """Also in two processes, by ``make integrations``."""
    script = ROOT / "tests/support/deepspeed_nvme.py"
    said = run(str(script), str(tmp_path), DS_ACCELERATOR="cpu", ACCEL_DEEPSPEED="1")
    assert said.splitlines()[-1] == "rank 0 is done"


@pytest.mark.soak
def test_the_losses_are_those_of_deepspeeds_own_ops() -> None:
    ours = run(str(EXAMPLE), "--steps", "40", DS_ACCELERATOR="cpu", ACCEL_DEEPSPEED="1")
    theirs = run(str(EXAMPLE), "--steps", "40", DS_ACCELERATOR="cpu")
    assert "op from jit" in ours and "op from DeepSpeed" in theirs
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-4)
