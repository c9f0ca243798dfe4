"""Run by torchrun: DeepSpeed by configuration, each stage and optimizer, saved and resumed.

Argument: a folder for checkpoints.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed_ranks import finish

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

# By stage, optimizer in the configuration, whether it is offloaded: where its op is kept.
CASES: dict[tuple[int, str, bool], str] = {
    (1, "AdamW", True): "ds_opt_adam",
    (2, "Adam", True): "ds_opt_adam",
    (3, "AdamW", True): "ds_opt_adam",
    (1, "Lion", True): "ds_opt_lion",
    (3, "Lion", True): "ds_opt_lion",
    (2, "Adagrad", True): "ds_opt_adagrad",
    (2, "AdamW", False): "",
    (3, "Adam", False): "",
}


def config(stage: int, name: str, offloaded: bool) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 8,
        "bf16": {"enabled": True},
        "zero_optimization": {
            "stage": stage,
            **({"offload_optimizer": {"device": "cpu"}} if offloaded else {}),
        },
        "gradient_clipping": 1.0,
        "optimizer": {"type": name, "params": {"lr": 1e-2, "weight_decay": 0.1}},
        "steps_per_print": 1_000_000,
    }


def build(case: tuple[int, str, bool]) -> Any:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 4))
    return deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=config(*case)
    )[0]


def train(engine: Any, steps: range) -> torch.Tensor:
    rank = torch.distributed.get_rank()
    for step in steps:
        generator = torch.Generator().manual_seed(step * 2 + rank)
        batch = torch.randn(8, 16, generator=generator).to(engine.device, torch.bfloat16)
        engine.backward(engine(batch).float().square().mean())
        engine.step()
    get = deepspeed.utils.safe_get_full_fp32_param
    return torch.cat([get(one).flatten().clone() for one in engine.module.parameters()])


def check(case: tuple[int, str, bool], kept: str, folder: Path) -> None:
    whole = build(case)
    inner = whole.optimizer.optimizer
    if kept:
        assert getattr(inner, kept).implementation == "jit", case
    else:
        assert type(inner).__name__ == "FusedAdam", type(inner)
        assert inner.multi_tensor_adam.__self__.implementation == "jit", case
    half = train(whole, range(2))
    whole.save_checkpoint(str(folder))
    expected = train(whole, range(2, 4))
    resumed = build(case)
    resumed.load_checkpoint(str(folder))
    found = train(resumed, range(2, 4))
    assert float((found - expected).abs().max()) == 0.0, case
    assert float((half - expected).abs().max()) > 1e-3, case
    for engine in (whole, resumed):
        engine.destroy()


def main() -> None:
    for number, (case, kept) in enumerate(CASES.items()):
        check(case, kept, Path(sys.argv[1]) / str(number))
    finish()


if __name__ == "__main__":
    main()
