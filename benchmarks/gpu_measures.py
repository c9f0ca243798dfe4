"""Measures of the CUDA ops on a real GPU, called by gpu.py: each beside its peer and its limit."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_checks import BF16, F32, Bench

from accel.jit import make_plan
from accel.optim import Adam8bit, FusedAdam, FusedLamb, FusedLion
from accel.probe import Rejected

ROUNDS = 15
Result = dict[str, Any]


def device_seconds(bench: Bench, work: Callable[[], object]) -> float:
    """Return the median time of `work` between two events on the device."""
    times = []
    for round_number in range(ROUNDS + 3):
        start, end = (bench.accelerator.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        if round_number >= 3:
            times.append(start.elapsed_time(end) / 1000)
    return statistics.median(times)


def wall_seconds(bench: Bench, work: Callable[[], object], repeats: int) -> float:
    """Return the median over rounds of the wall time of one call among `repeats`."""
    times = []
    for round_number in range(7):
        bench.accelerator.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        bench.accelerator.synchronize()
        if round_number >= 2:
            times.append((time.perf_counter() - start) / repeats)
    return statistics.median(times)


def elements(bench: Bench) -> int:
    """Return 1 G elements, or what half of the free memory holds in 32 bytes each."""
    if bench.small:
        return 1 << 16
    return min(10**9, bench.accelerator.available_memory() // 64)


def copy_bandwidth(bench: Bench) -> Result:
    """Bytes read plus written a second by a copy from device memory to device memory."""
    numel = 1 << (16 if bench.small else 30)
    source = torch.ones(numel, device=bench.device)
    target = torch.empty_like(source)
    seconds = device_seconds(bench, lambda: target.copy_(source))
    return {"bytes": 8 * numel, "seconds": seconds, "bytes_per_s": 8 * numel / seconds}


def big_step(
    bench: Bench,
    kind: Any,
    dtype: torch.dtype,
    bytes_each: float,
    limit: float,
    **options: object,
) -> Result:
    """One step over one large tensor against the copy's bandwidth."""
    numel = elements(bench)
    param = torch.nn.Parameter(torch.zeros(numel, dtype=dtype, device=bench.device))
    param.grad = torch.full_like(param, 1e-3)
    optimizer = kind([param], **options)
    seconds = device_seconds(bench, optimizer.step)
    rate = bytes_each * numel / seconds
    return {"elements": numel, "bytes_each": bytes_each, "seconds": seconds,
            "bytes_per_s": rate, "of_copy": rate / limit}  # fmt: skip


def torch_step(bench: Bench) -> Result:
    """The same step by ``torch.optim.AdamW(fused=True)``."""
    numel = elements(bench)
    param = torch.nn.Parameter(torch.zeros(numel, device=bench.device))
    param.grad = torch.full_like(param, 1e-3)
    optimizer = torch.optim.AdamW([param], fused=True)
    return {"elements": numel, "seconds": device_seconds(bench, optimizer.step)}


def many_tensors(bench: Bench) -> Result:
    """2000 tensors of 1024 elements: wall time of a step, Python included, both ways in turns."""
    count = 50 if bench.small else 2000

    def ready(make: Callable[[list[Any]], Any]) -> Callable[[], object]:
        params = [torch.nn.Parameter(torch.zeros(1024, device=bench.device)) for _ in range(count)]
        for param in params:
            param.grad = torch.full_like(param, 1e-3)
        step: Callable[[], object] = make(params).step
        return step

    ours, theirs = ready(FusedAdam), ready(lambda params: torch.optim.AdamW(params, fused=True))
    pairs = [(wall_seconds(bench, ours, 10), wall_seconds(bench, theirs, 10)) for _ in range(3)]
    return {
        "tensors": count,
        "seconds": statistics.median(pair[0] for pair in pairs),
        "torch_seconds": statistics.median(pair[1] for pair in pairs),
        "times_torch": statistics.median(pair[1] / pair[0] for pair in pairs),
    }


def cold_build(bench: Bench) -> Result:
    """The engine's cold build of one op beside the same commands run bare."""
    builder = bench.accelerator.create_op_builder("FusedAdamBuilder")
    plan = make_plan(builder.recipe())
    if isinstance(plan, Rejected):
        return {"left_out": str(plan)}
    code = (
        "import time, sys; from accel.builders.lookup import find_builder as f;"
        "from accel.jit import acquire;"
        f"b = f('FusedAdamBuilder', {bench.accelerator.op_builder_dir()!r}, "
        f"{bench.accelerator.name!r})();"
        "t = time.perf_counter(); acquire(b.recipe()); print(time.perf_counter() - t)"
    )
    engine, bare = [], []
    for _ in range(1 if bench.small else 3):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o700)
            command = ["env", f"ACCEL_CACHE_DIR={folder}", sys.executable, "-c", code]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            engine.append(float(done.stdout))
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            for step in plan.commands:
                subprocess.run(step.argv, cwd=folder, check=True, capture_output=True)
            bare.append(time.perf_counter() - start)
    ours, limit = statistics.median(engine), statistics.median(bare)
    return {"seconds": ours, "bare_seconds": limit, "allowed_seconds": 1.3 * limit + 0.3,
            "targets": list(plan.targets)}  # fmt: skip


# Bytes that a step must move for each element: parameter, gradient and states, read and written.
STEPS: dict[str, tuple[Any, torch.dtype, float, dict[str, object]]] = {
    "adam_fp32": (FusedAdam, F32, 28, {}),
    "adam_bf16_master": (FusedAdam, BF16, 28, {"master_dtype": F32}),
    "adam8bit_fp32": (Adam8bit, F32, 16 + 16 / 256, {"seed": 1}),
    "lion_fp32": (FusedLion, F32, 20, {}),
    "lamb_fp32": (FusedLamb, F32, 40, {}),
}


def run_measures(bench: Bench) -> dict[str, Result]:
    """Run every measure; returns the figures by name."""
    found: dict[str, Result] = {"copy": copy_bandwidth(bench)}
    limit = found["copy"]["bytes_per_s"]
    for name, (kind, dtype, bytes_each, options) in STEPS.items():
        bench.accelerator.empty_cache()
        found[name] = big_step(bench, kind, dtype, bytes_each, limit, **options)
    bench.accelerator.empty_cache()
    found["torch_fp32"] = torch_step(bench)
    fp32 = found["adam_fp32"]
    fp32["times_torch"] = found["torch_fp32"]["seconds"] / fp32["seconds"]
    found["adam8bit_fp32"]["times_adam_fp32"] = fp32["seconds"] / found["adam8bit_fp32"]["seconds"]
    bench.accelerator.empty_cache()
    found["many_tensors"] = many_tensors(bench)
    found["cold_build"] = cold_build(bench)
    return found
