"""Other libraries' optimizers beside ours, where they are installed."""

from __future__ import annotations

from typing import Any

from accel.optim import Adam8bit, FusedAdam

from .bench import BF16, F32, Bench
from .measures import Result, elements, step_of
from .timing import beside, device_times, wall_times


def bitsandbytes_adam8bit(bench: Bench) -> Result:
    """bitsandbytes' AdamW8bit beside our Adam8bit, over one large tensor."""
    if bench.device.type != "cuda":
        return {"left_out": "not CUDA"}
    try:
        import bitsandbytes
    except ImportError as error:
        return {"left_out": str(error)}
    found: Result = {"version": bitsandbytes.__version__}
    for name, dtype in (("", F32), ("bf16_", BF16)):
        # bitsandbytes counts elements in 32 bits.
        numel = min(elements(bench, 24), 10**9)
        contestants = {
            "ours": step_of(bench, Adam8bit, [(numel,)], dtype, seed=1),
            "bitsandbytes": step_of(bench, bitsandbytes.optim.AdamW8bit, [(numel,)], dtype),
        }
        times = beside(device_times(bench, contestants), "ours")
        found |= {"elements": numel} | {f"{name}{key}": value for key, value in times.items()}
        del contestants
        bench.accelerator.empty_cache()
    return found


def deepspeed_adam(bench: Bench) -> Result:
    """DeepSpeed's FusedAdam beside ours: one large tensor, and 2000 small ones."""
    if bench.device.type != "cuda":
        return {"left_out": "not CUDA"}
    try:
        import deepspeed
        from deepspeed.ops.adam import FusedAdam as Theirs
    except Exception as error:  # Its import runs much that is not ours.
        return {"left_out": f"{type(error).__name__}: {error}"[:500]}
    found: Result = {"version": deepspeed.__version__}
    kinds: dict[str, Any] = {"ours": FusedAdam, "deepspeed": Theirs}
    numel = elements(bench, 40)
    contestants = {name: step_of(bench, kind, [(numel,)], F32) for name, kind in kinds.items()}
    found |= {"elements": numel} | beside(device_times(bench, contestants), "ours")
    shapes = [(1024,)] * 2000
    contestants = {name: step_of(bench, kind, shapes, F32) for name, kind in kinds.items()}
    many = beside(wall_times(bench, contestants), "ours")
    return found | {f"many_{key}": value for key, value in many.items()}
