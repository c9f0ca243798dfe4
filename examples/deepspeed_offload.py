"""DeepSpeed ZeRO-2 with its optimizer offloaded to the CPU, on this project's ops.

``ACCEL_DEEPSPEED=1 python examples/deepspeed_offload.py`` takes CPUAdam from accel; without the
variable DeepSpeed compiles and uses its own, and the losses are the same. Either way, the first run
on a CPU waits about a minute for DeepSpeed to compile its ``shm_comm``, which accel does not have.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import torch

import accel


def config(learning_rate: float) -> dict[str, Any]:
    """Return DeepSpeed's configuration: ZeRO-2, optimizer states and steps on the CPU."""
    return {
        "train_micro_batch_size_per_gpu": 8,
        "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": learning_rate, "betas": [0.9, 0.95], "weight_decay": 0.1},
        },
        "steps_per_print": 1_000_000,
    }


def join_alone() -> None:
    """Describe a job of one process, unless a launcher already described one."""
    for name, value in (
        ("RANK", "0"),
        ("LOCAL_RANK", "0"),
        ("WORLD_SIZE", "1"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29511"),
    ):
        os.environ.setdefault(name, value)


def announce_build() -> None:
    """Say why DeepSpeed is silent for a minute, if it will compile its library of collectives."""
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    # DeepSpeed has that library for its CPU accelerator alone.
    on_cpu = get_accelerator().device_name() == "cpu"
    if on_cpu and deepspeed.ops.__compatible_ops__.get("deepspeed_shm_comm"):
        print(
            "DeepSpeed loads its shm_comm, which it compiles on the first run: about a minute.",
            flush=True,
        )


def main() -> None:
    """Train a small network to copy another one and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    options = parser.parse_args()
    join_alone()
    print(f"accelerator {accel.get_accelerator().name}")

    import deepspeed

    announce_build()
    torch.manual_seed(0)
    teacher = torch.nn.Linear(options.width, options.width)
    student = torch.nn.Sequential(
        torch.nn.Linear(options.width, 4 * options.width),
        torch.nn.GELU(),
        torch.nn.Linear(4 * options.width, options.width),
    )
    engine, optimizer, _, _ = deepspeed.initialize(
        model=student, model_parameters=student.parameters(), config=config(options.lr)
    )
    inner = getattr(optimizer, "optimizer", optimizer)
    op = getattr(inner, "ds_opt_adam", None)
    print(f"optimizer {type(inner).__name__}, op from {getattr(op, 'implementation', 'DeepSpeed')}")
    start = time.perf_counter()
    for step in range(options.steps):
        x = torch.randn(8, options.width, device=engine.device)
        loss = torch.nn.functional.mse_loss(engine(x), teacher.to(engine.device)(x).detach())
        engine.backward(loss)
        engine.step()
        print(f"step {step + 1}  loss {loss.item():.6f}")
    print(f"{options.steps} steps in {time.perf_counter() - start:.1f} s")
    engine.destroy()


if __name__ == "__main__":
    main()
