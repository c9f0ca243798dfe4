"""ZeRO-3 by its configuration with states and parameters in files, beside the same in memory.

    python deepspeed_nvme.py FOLDER

Run alone, or by torchrun. All runs train the same model on the same batches: their losses have the
same bits, and the files hold the same moments as memory does.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed_ranks import finish

from accel.ops.io.handle import AioHandle

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

PAGE = Path(__file__).parents[2] / "docs/async-io.md"
STEPS = 4
RANK, RANKS = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
# DeepSpeed keeps tensors of less than 1 MiB a process in memory.
PART = 1 << 18
WIDTH = 256
HEIGHT = PART * RANKS // WIDTH


def config(folder: Path, *, states: str, everything: bool = False) -> Any:
    """Return the page's configuration, with parameters in files only if `everything` is."""
    (text,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    page = json.loads(text)
    zero = page["zero_optimization"]
    for one in ("offload_optimizer", "offload_param"):
        zero[one]["nvme_path"] = str(folder)
    zero["offload_param"] |= {"buffer_size": PART + 4096, "max_in_cpu": 0}
    if not everything:
        zero["offload_optimizer"] |= {"pipeline_read": False, "pipeline_write": False}
        zero.pop("offload_param")
    if states == "cpu":
        zero["offload_optimizer"] = {"device": "cpu"}
    zero |= {"sub_group_size": PART + 1, "stage3_param_persistence_threshold": 0}
    return page | {
        "train_micro_batch_size_per_gpu": 8,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "weight_decay": 0.1}},
        "steps_per_print": 1_000_000,
    }


def build(config: Any) -> Any:
    torch.manual_seed(0)
    with deepspeed.zero.Init(config_dict_or_path=config):
        model = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, HEIGHT), torch.nn.GELU(), torch.nn.Linear(HEIGHT, WIDTH)
        )
    return deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)[0]


def losses(engine: Any) -> list[float]:
    """Train on one batch and return the losses."""
    x = torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(RANK))
    found = []
    for _ in range(STEPS):
        loss = (engine(x) - torch.sin(3 * x)).square().mean()
        engine.backward(loss)
        engine.step()
        found.append(loss.item())
    return found


def moments(engine: Any) -> list[torch.Tensor]:
    """Return the first moments of the groups, from memory."""
    states = engine.optimizer.optimizer.state
    return [one["exp_avg"].flatten().clone() for one in states.values()]


def moments_of_files(folder: Path) -> list[torch.Tensor]:
    found = folder.glob(f"zero_stage_3/optimizer/rank{RANK}/exp_avg-*.swp")
    paths = sorted(found, key=lambda path: int(path.name.split("-")[1].split("_")[0]))
    return [torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.float32) for path in paths]


def join_alone() -> None:
    """Describe a job of one process, unless torchrun has described one."""
    for name, value in (
        ("RANK", "0"),
        ("LOCAL_RANK", "0"),
        ("WORLD_SIZE", "1"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29541"),
    ):
        os.environ.setdefault(name, value)


def main() -> None:
    join_alone()
    folder = Path(sys.argv[1])
    plain = build(config(folder, states="cpu"))
    wanted, memory = losses(plain), moments(plain)
    plain.destroy()
    assert wanted[-1] < wanted[0]
    for name, kind, everything in (
        ("states", "PartitionedOptimizerSwapper", False),
        ("everything", "PipelinedOptimizerSwapper", True),
    ):
        place = folder / name
        engine = build(config(place, states="nvme", everything=everything))
        swapper = engine.optimizer.optimizer_swapper
        assert type(swapper).__name__ == kind
        handles = [one for one in vars(swapper).values() if isinstance(one, AioHandle)]
        assert handles, vars(swapper)
        assert engine.optimizer.optimizer.ds_opt_adam.implementation == "jit"
        found = losses(engine)
        assert found == wanted, (name, found, wanted)
        files = moments_of_files(place)
        assert len(files) == len(memory) == 2
        for one, other in zip(files, memory, strict=True):
            assert torch.equal(one[: other.numel()], other) and other.any()
        swapped = [*place.glob(f"zero_stage_3/float32params/rank{RANK}/*.swp")]
        assert len(swapped) == (2 if everything else 0)
        engine.destroy()
    finish()


if __name__ == "__main__":
    main()
