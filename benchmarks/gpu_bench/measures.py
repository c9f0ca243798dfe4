"""Measures of the ops on a real GPU: each beside its peer and its limit."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from accel.jit import make_plan
from accel.optim import Adam8bit, CPUAdam, FusedAdam, FusedLamb, FusedLion
from accel.probe import Rejected

from .bench import BF16, F32, Bench
from .timing import Work, beside, device_times, host_seconds, wall_times

Result = dict[str, Any]
WIDTH = 768
GPT2 = [(50257, WIDTH), (1024, WIDTH), (WIDTH,), (WIDTH,)] + 12 * [
    (WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,),
    (WIDTH,), (WIDTH,), (4 * WIDTH, WIDTH), (4 * WIDTH,), (WIDTH, 4 * WIDTH), (WIDTH,),
]  # fmt: skip


def elements(bench: Bench, bytes_each: float) -> int:
    """Return 1 G elements, or what 0.8 of the free memory holds."""
    if bench.small:
        return 1 << 16
    return min(10**9, int(0.8 * bench.accelerator.available_memory() / bytes_each))


def step_of(
    bench: Bench, kind: Any, shapes: list[tuple[int, ...]], dtype: torch.dtype, **options: Any
) -> Work:
    """Return the step of a fresh optimizer over random parameters and gradients."""
    params = []
    for shape in shapes:
        params.append(torch.nn.Parameter(torch.randn(shape, dtype=dtype, device=bench.device)))
        params[-1].grad = torch.randn(shape, dtype=dtype, device=bench.device).mul_(1e-3)
    step: Work = kind(params, **options).step
    return step


def torch_fused(params: list[Any]) -> torch.optim.Optimizer:
    """Return torch's fused AdamW."""
    return torch.optim.AdamW(params, fused=True)


def torch_foreach(params: list[Any]) -> torch.optim.Optimizer:
    """Return torch's AdamW over lists of tensors, one operation after the other."""
    return torch.optim.AdamW(params, foreach=True)


def copy(bench: Bench) -> Result:
    """Bytes read plus written a second by a copy from device memory to device memory."""
    numel = 1 << (16 if bench.small else 30)
    source = torch.randn(numel, device=bench.device)
    target = torch.empty_like(source)
    times = device_times(bench, {"copy": lambda: target.copy_(source)})
    seconds = statistics.median(times["copy"])
    return {"bytes": 8 * numel, "seconds": seconds, "bytes_per_s": 8 * numel / seconds}


def _large(
    bench: Bench,
    bytes_each: float,
    room: float,
    ours: tuple[Any, torch.dtype, dict[str, Any]],
    **peers: tuple[Any, torch.dtype, dict[str, Any]],
) -> Result:
    """One step over one large tensor; `bytes_each` must be moved, `room` is held by an element."""
    numel = elements(bench, room)
    contestants = {
        name: step_of(bench, kind, [(numel,)], dtype, **options)
        for name, (kind, dtype, options) in {"ours": ours, **peers}.items()
    }
    found = beside(device_times(bench, contestants), "ours")
    rate = bytes_each * numel / found["seconds"]
    return {"elements": numel, "bytes_each": bytes_each, "bytes_per_s": rate} | found


def adam_fp32(bench: Bench) -> Result:
    """Adam in float32 beside torch's fused and its foreach forms."""
    return _large(bench, 28, 60, (FusedAdam, F32, {}), torch_fused=(torch_fused, F32, {}),
                  torch_foreach=(torch_foreach, F32, {}))  # fmt: skip


def adam_bf16_master(bench: Bench) -> Result:
    """Adam with bfloat16 parameters and gradients, float32 masters and moments."""
    return _large(bench, 28, 18, (FusedAdam, BF16, {"master_dtype": F32}))


def adam_bf16(bench: Bench) -> Result:
    """Adam with everything in bfloat16 beside torch's fused form; and rounded stochastically."""
    stochastic = {"state_dtype": "param", "rounding": "stochastic", "seed": 1}
    return _large(bench, 14, 40, (FusedAdam, BF16, {"state_dtype": "param"}),
                  torch_fused=(torch_fused, BF16, {}),
                  stochastic=(FusedAdam, BF16, stochastic))  # fmt: skip


def adam8bit_fp32(bench: Bench) -> Result:
    """Adam with moments of 8 bits beside our float32 Adam, and in bfloat16."""
    return _large(bench, 16 + 16 / 256, 36, (Adam8bit, F32, {"seed": 1}),
                  adam_fp32=(FusedAdam, F32, {}),
                  adam8bit_bf16=(Adam8bit, BF16, {"seed": 1}))  # fmt: skip


def lion_fp32(bench: Bench) -> Result:
    """Lion in float32."""
    return _large(bench, 20, 12, (FusedLion, F32, {}))


def lamb_fp32(bench: Bench) -> Result:
    """LAMB in float32; its two passes move 40 bytes an element."""
    return _large(bench, 40, 18, (FusedLamb, F32, {}))


def triton_adam_fp32(bench: Bench) -> Result:
    """Adam's kernel written in Triton beside the native one, both called directly."""
    if bench.device.type != "cuda":
        return {"left_out": "not CUDA"}
    from .tensors import hyper, make

    numel = elements(bench, 40)
    contestants: dict[str, Work] = {}
    for rung in ("portable", "native"):
        tensors = make(bench, (1,), (F32, F32, F32), steps=True)
        for role in tensors.roles:
            tensors.roles[role] = [torch.rand(numel, device=bench.device)]
        kernel = bench.on(rung).kernel()  # type: ignore[arg-type]
        contestants[rung] = lambda kernel=kernel, tensors=tensors: kernel.run(tensors, hyper())
    found = beside(device_times(bench, contestants), "portable")
    return {"elements": numel, "bytes_per_s": 28 * numel / found["seconds"]} | found


def many_tensors(bench: Bench) -> Result:
    """2000 tensors of 1024 elements: wall time of a step, Python included."""
    count = 50 if bench.small else 2000
    return {"tensors": count} | _walls(bench, [(1024,)] * count, F32)


def gpt2(bench: Bench) -> Result:
    """GPT-2's 124 M parameters in float32: wall time of a step, Python included."""
    shapes = [(64, 8)] * 20 if bench.small else GPT2
    return {"tensors": len(shapes)} | _walls(bench, shapes, F32)


def _walls(bench: Bench, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> Result:
    kinds = {"ours": FusedAdam, "torch_fused": torch_fused, "torch_foreach": torch_foreach}
    contestants = {name: step_of(bench, kind, shapes, dtype) for name, kind in kinds.items()}
    found = beside(wall_times(bench, contestants), "ours")
    hosts = {f"{name}_host_seconds": host_seconds(bench, contestants[name]) for name in kinds}
    return found | hosts


def cpu_adam_offload(bench: Bench) -> Result:
    """CPUAdam of bfloat16 parameters on the device, its states on the host: wall time of a step."""
    found: Result = {}
    for name, shapes in (("large", [(1 << (14 if bench.small else 27),)]),
                         ("many", [(1024,)] * (50 if bench.small else 2000))):  # fmt: skip
        step = step_of(bench, CPUAdam, shapes, BF16)
        times = wall_times(bench, {"ours": step}, repeats=1)
        found[f"{name}_seconds"] = statistics.median(times["ours"])
    return found


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
    for _ in range(1 if bench.small else 2):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o700)
            command = ["env", "-u", "ACCEL_PREBUILT_DIR", f"ACCEL_CACHE_DIR={folder}"]
            command += [sys.executable, "-c", code]
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
