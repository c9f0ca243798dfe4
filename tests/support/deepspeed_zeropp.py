"""Run by torchrun: ZeRO++ on our quantizer, beside plain ZeRO-3.

Both train the same model on the same batches; quantized weights and gradients end with a loss that
is within 2 % of the plain one. Each of the two processes is a node, as DeepSpeed quantizes the
gradients that nodes exchange alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

os.environ["LOCAL_SIZE"] = "1"

import deepspeed
import torch
from deepspeed.runtime.zero import partition_parameters
from deepspeed_ranks import finish

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

STEPS = 60
BATCH = 32
UNTRAINED = 2.2  # the mean square of what is to be learnt


def config(weights: bool, gradients: bool) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": BATCH,
        "bf16": {"enabled": True},
        "zero_optimization": {
            "stage": 3,
            "stage3_param_persistence_threshold": 0,
            "zero_quantized_weights": weights,
            "zero_quantized_gradients": gradients,
        },
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-3}},
        "steps_per_print": 1_000_000,
    }


def batch(seed: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs, and what a fixed network makes of them."""
    x = torch.randn(BATCH, 32, generator=torch.Generator().manual_seed(seed))
    made = torch.Generator().manual_seed(7)
    first, second = torch.randn(32, 16, generator=made), torch.randn(16, 16, generator=made)
    return x.to(device, torch.bfloat16), (torch.tanh(x @ first / 4) @ second / 2).to(device)


def loss_of(engine: Any, seed: int) -> torch.Tensor:
    x, y = batch(seed, engine.device)
    return (engine(x).float() - y).square().mean()


def train(weights: bool, gradients: bool) -> float:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 128), torch.nn.GELU(), torch.nn.Linear(128, 16))
    engine = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=config(weights, gradients)
    )[0]
    rank = torch.distributed.get_rank()
    for step in range(STEPS):
        engine.backward(loss_of(engine, 100 + step * 2 + rank))
        engine.step()
    with torch.no_grad():
        found = sum(float(loss_of(engine, seed)) for seed in range(8)) / 8
    engine.destroy()
    return found


def counted(calls: Counter[str]) -> None:
    """Count the calls of our quantizer."""
    from accel.ops.quantizers.quantizer import Quantizer

    def counting(name: str, was: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls[name] += 1
            return was(*args)

        return call

    for name in ("quantize", "dequantize", "swizzle_quant", "quantized_reduction"):
        setattr(Quantizer, name, counting(name, getattr(Quantizer, name)))


def gather_scales_flat() -> None:
    """Give DeepSpeed's gather what gloo takes.

    It sends scales of shape [groups, 1] to a flat buffer; gloo compares shapes and refuses.
    """
    gather = partition_parameters._dist_allgather_fn
    partition_parameters._dist_allgather_fn = lambda given, *rest: gather(given.reshape(-1), *rest)


def main() -> None:
    calls: Counter[str] = Counter()
    counted(calls)
    plain = train(weights=False, gradients=False)
    assert not calls, calls
    assert plain < 0.5 * UNTRAINED, plain
    for weights, gradients in ((False, True), (True, True)):
        calls.clear()
        if weights:
            gather_scales_flat()
        quantized = train(weights, gradients)
        assert abs(quantized - plain) < 0.02 * plain, (plain, quantized)
        assert calls["swizzle_quant"] >= STEPS and calls["quantized_reduction"] >= STEPS, calls
        assert (calls["quantize"] > 0) == weights, calls
    finish()


if __name__ == "__main__":
    main()
