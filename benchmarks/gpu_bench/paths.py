"""Checks of the ways to a step: captures, streams, offload, gradient scaling, Triton."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import torch
from torch import Tensor

from accel.optim import CPUAdam, FusedAdam, FusedLion

from .bench import BF16, F32, Bench, expect
from .tensors import SIZES, copied, hyper, make

STEPS = 6


def check_first_launch_in_capture(bench: Bench) -> str:
    """The process's first launch of a library may be inside a capture: it loads what it needs."""
    tensors = make(bench, SIZES, (F32, F32, F32), steps=True)
    eager = copied(tensors)
    kernel, graph = bench.kernel(), bench.accelerator.create_graph()
    with bench.accelerator.capture_to_graph(graph):
        kernel.run(tensors, hyper())
    if bench.device.type != "cpu":  # The host's capture has done the step.
        bench.accelerator.replay_graph(graph)
    kernel.run(eager, hyper())
    same = all(map(torch.equal, tensors.params, eager.params))
    expect(same, "the replay's parameters differ from the eager step's")
    return "the replay has the eager step's bits"


def _model(bench: Bench) -> tuple[torch.nn.Module, Tensor, Tensor]:
    torch.manual_seed(3)
    layers = (torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64))
    model = torch.nn.Sequential(*layers).to(bench.device)
    inputs = torch.randn(128, 64, device=bench.device)
    return model, inputs, inputs.flip(1).sin()


def _train(bench: Bench, optimizer_of: Any, captured: bool) -> Tensor:
    """Return all parameters after some steps; forward, backward and step in one graph or eager."""
    model, inputs, wanted = _model(bench)
    optimizer = optimizer_of(model.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.mse_loss(model(inputs), wanted).backward()
        optimizer.step()

    steps = STEPS
    if captured:
        side = bench.accelerator.Stream()
        side.wait_stream(bench.accelerator.current_stream())
        with bench.accelerator.stream(side):
            for _ in range(2):
                step()
        bench.accelerator.current_stream().wait_stream(side)
        graph = bench.accelerator.create_graph()
        with bench.accelerator.capture_to_graph(graph):
            step()
        for _ in range(STEPS - 2):
            bench.accelerator.replay_graph(graph)
        steps = 0
    for _ in range(steps):
        step()
    bench.accelerator.synchronize()
    return torch.cat([param.detach().flatten() for param in model.parameters()]).clone()


def check_whole_capture(bench: Bench) -> str:
    """Forward, backward and step in one graph, as torch recommends, train as eager steps do."""
    if bench.device.type != "cuda":
        return "left out: not CUDA"
    return _captured(bench)


def _captured(bench: Bench) -> str:
    furthest = 0.0
    for kind in (FusedAdam, FusedLion):
        options = {"lr": 1e-3, "weight_decay": 0.1}
        make_optimizer = partial(kind, **options)
        eager, captured = (_train(bench, make_optimizer, whole) for whole in (False, True))
        furthest = max(furthest, (eager - captured).abs().max().item())
        expect(furthest < 1e-4, f"{kind.__name__}: off by {furthest:.3g} after {STEPS} steps")
    peer = _train(bench, lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1), False)
    ours = _train(bench, lambda p: FusedAdam(p, lr=1e-3, weight_decay=0.1), False)
    beside = (peer - ours).abs().max().item()
    expect(beside < 1e-4, f"FusedAdam is off torch's AdamW by {beside:.3g} after {STEPS} steps")
    return f"off eager by at most {furthest:.2g}; eager off torch's AdamW by {beside:.2g}"


def check_triton_capture(bench: Bench) -> str:
    """The same capture on the Triton rung, whose tables of addresses are made in the capture."""
    if bench.device.type != "cuda":
        return "left out: not CUDA"
    before = os.environ.get("NVCC"), os.environ.get("ACCEL_PREBUILT_DIR")
    return _without_native(lambda: _captured(bench), before)


def _without_native(work: Any, before: tuple[str | None, str | None]) -> str:
    """Return what `work` does where neither nvcc nor a prebuilt library is found."""
    from accel.builders.base import OpBuilder

    os.environ["NVCC"] = "/nowhere/nvcc"
    os.environ.pop("ACCEL_PREBUILT_DIR", None)
    OpBuilder._loaded.clear()
    try:
        found = work()
        return f"{found}; NVCC pointed nowhere"
    finally:
        for name, value in zip(("NVCC", "ACCEL_PREBUILT_DIR"), before, strict=True):
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        OpBuilder._loaded.clear()


def check_two_streams(bench: Bench) -> str:
    """Two libraries at work on two streams do what they do one after the other."""
    numel = 1 << (16 if bench.small else 24)

    def params() -> list[torch.nn.Parameter]:
        made = [torch.nn.Parameter(torch.full((numel,), 0.5, device=bench.device)) for _ in "ab"]
        for param in made:
            param.grad = torch.full_like(param, 0.25)
        return made

    together, alone = params(), params()
    optimizers = [FusedAdam(together[:1], lr=0.01), FusedLion(together[1:], lr=0.01)]
    streams = [bench.accelerator.Stream() for _ in optimizers]
    bench.accelerator.synchronize()
    for _ in range(STEPS):
        for optimizer, stream in zip(optimizers, streams, strict=True):
            with bench.accelerator.stream(stream):
                optimizer.step()
    bench.accelerator.synchronize()
    for optimizer in (FusedAdam(alone[:1], lr=0.01), FusedLion(alone[1:], lr=0.01)):
        for _ in range(STEPS):
            optimizer.step()
    expect(all(map(torch.equal, together, alone)), "the parameters differ")
    return f"{STEPS} steps each of FusedAdam and FusedLion"


def check_offload(bench: Bench) -> str:
    """CPUAdam over several buckets, gradients late on a side stream, steps as FusedAdam does."""
    sizes = (3, 70_000, 1 << 16, 1, 300_001)
    generator = torch.Generator().manual_seed(11)
    values = [torch.randn(size, generator=generator) for size in sizes]

    def stepped(kind: Any, dtype: torch.dtype, **options: Any) -> list[Tensor]:
        params = [torch.nn.Parameter(value.to(bench.device, dtype)) for value in values]
        optimizer = kind(params, lr=0.01, weight_decay=0.1, **options)
        stream = bench.accelerator.Stream()
        for number in range(STEPS):
            stream.wait_stream(bench.accelerator.current_stream())
            with bench.accelerator.stream(stream):
                for param in params:
                    grad = torch.zeros_like(param, requires_grad=False)
                    for _ in range(20):
                        grad.add_(param.detach() * (0.05 + number))
                    param.grad = grad
                optimizer.step()
            bench.accelerator.current_stream().wait_stream(stream)
        bench.accelerator.synchronize()
        return [param.detach() for param in params]

    # Of a parameter on a device the host has a float32 master, of its own it has none.
    masters = {} if bench.device.type == "cpu" else {"master_dtype": F32}
    for dtype, options, near in ((F32, {}, 2e-5), (BF16, masters, 2.0**-7)):
        pairs = zip(stepped(CPUAdam, dtype), stepped(FusedAdam, dtype, **options), strict=True)
        for got, want in pairs:
            close = torch.allclose(got.float(), want.float(), rtol=near, atol=near)
            expect(close, f"{dtype}: off by {(got.float() - want.float()).abs().max().item():.3g}")
    return f"{STEPS} steps in float32 and bfloat16 over {len(sizes)} tensors"


def check_grad_scaler(bench: Bench) -> str:
    """GradScaler skips a step with an infinite gradient, and scales the others as torch's AdamW."""
    if bench.device.type != "cuda":
        return "left out: not CUDA"

    def trained(kind: Any, **options: Any) -> tuple[Tensor, float]:
        model, inputs, wanted = _model(bench)
        optimizer = kind(model.parameters(), lr=1e-3, weight_decay=0.1, **options)
        scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
        for number in range(STEPS):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = torch.nn.functional.mse_loss(model(inputs), wanted)
            scaler.scale(loss).backward()
            if number == 2:
                next(model.parameters()).grad[0, 0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
        flat = torch.cat([param.detach().flatten() for param in model.parameters()])
        return flat, scaler.get_scale()

    ours, scale = trained(FusedAdam)
    theirs, their_scale = trained(torch.optim.AdamW, fused=True)
    off = (ours - theirs).abs().max().item()
    expect(scale == their_scale == 2.0**9, f"scales {scale} and {their_scale}")
    expect(off < 1e-4, f"off torch's AdamW by {off:.3g}")
    return f"one step of {STEPS} skipped; off torch's fused AdamW by {off:.2g}"
