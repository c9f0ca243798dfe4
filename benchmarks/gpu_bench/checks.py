"""Checks of Adam, of the whole device, and of what is outside of the kernels."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from accel.optim import Adam8bit, FusedAdagrad, FusedAdam, FusedLamb, FusedLion
from accel.testing import run

from .bench import BF16, F16, F32, FAMILIES, Bench, expect
from .tensors import SIZES, copied, hyper, make, worst

WINDOW = 4096
FORK = """
import os, sys
from accel.cuda import CUDAAccelerator
verdict = CUDAAccelerator().probe()
assert verdict, verdict
child = os.fork()
if child == 0:
    import torch
    os._exit(int(torch.ones(8, device="cuda").sum().item()) - 8)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def check_build(bench: Bench) -> str:
    """Every op's library is found or compiled, side by side."""

    def load(name: str) -> str:
        start = time.perf_counter()
        builder = bench.accelerator.create_op_builder(f"{name}Builder")
        found = builder.jit_load()
        return f"{name} {found.implementation} {time.perf_counter() - start:.1f} s"

    with ThreadPoolExecutor() as threads:
        return ", ".join(threads.map(load, FAMILIES))


def check_types(bench: Bench) -> str:
    """Every combination of element types, aligned and not, against the float64 reference."""
    most, cases = 0.0, 0
    for param in (F32, BF16, F16):
        for grad in {F32, param}:
            for state in {F32, param}:
                for offset in (0, 1):
                    tensors = make(bench, SIZES, (param, grad, state), offset=offset)
                    reference = copied(tensors, torch.float64)
                    bench.reference().run(reference, hyper())
                    bench.kernel().run(tensors, hyper())
                    most, cases = max(most, worst(tensors, reference)), cases + 1
    expect(most <= 1.0, f"off by {most:.3g} last places")
    return f"{cases} combinations, at most {most:.2f} of the last place off"


def check_bits(bench: Bench) -> str:
    """The CPU kernel's bits, masters and stochastic rounding included; a fact, not a demand."""
    from accel.builders.cpu import CPUAdamBuilder

    cpu = CPUAdamBuilder().load().kernel
    equal = []
    for numbers in (hyper(), hyper(rounding="stochastic", seed=2**63 + 5)):
        for dtypes in ((F32, F32, F32), (BF16, BF16, F32), (F16, F16, F16)):
            tensors = make(bench, SIZES, dtypes, master=dtypes[0] is BF16)
            host = copied(tensors, device="cpu")
            bench.kernel().run(tensors, numbers)
            cpu.run(host, numbers)
            same = [
                torch.equal(got.cpu(), want)
                for role, listed in tensors.roles.items()
                for got, want in zip(listed, host.roles[role], strict=True)
            ]
            equal.append(all(same))
    return f"{sum(equal)} of {len(equal)} cases have the CPU kernel's bits"


def check_conformance(bench: Bench) -> str:
    """The kit: the accelerator against its contract, every op against float64."""
    report = run(type(bench.accelerator))
    expect(report.passed, report.text())
    return report.text().splitlines()[-1]


HUGE: tuple[tuple[type[torch.optim.Optimizer], int, dict[str, object]], ...] = (
    (FusedAdam, 8, {"state_dtype": "param", "lr": 0.02, "weight_decay": 0.1}),
    (FusedLion, 8, {"lr": 0.02, "weight_decay": 0.1}),
    (FusedAdagrad, 8, {"lr": 0.02, "weight_decay": 0.1}),
    (FusedLamb, 12, {"lr": 0.02, "weight_decay": 0.1}),
    (Adam8bit, 6, {"lr": 0.02, "weight_decay": 0.1, "seed": 1}),
)


def check_huge(bench: Bench) -> str:
    """More than 2^31 elements in one bfloat16 tensor: its ends, middle and boundary are right."""
    numel = (1 << 20) + 77 if bench.small else (1 << 31) + 8192 * 3 + 77
    done = []
    for kind, bytes_each, options in HUGE:
        bench.accelerator.empty_cache()
        if not bench.small and bench.accelerator.available_memory() < 1.2 * bytes_each * numel:
            done.append(f"{kind.__name__} left out: too little memory")
            continue
        _one_huge(bench, kind, numel, options)
        done.append(kind.__name__)
    return f"{numel} elements: {', '.join(done)}"


def _one_huge(bench: Bench, kind: Any, numel: int, options: dict[str, object]) -> None:
    starts = [0, numel // 2, numel - WINDOW] + ([] if bench.small else [(1 << 31) - WINDOW // 2])
    huge = torch.ones(numel, dtype=BF16, device=bench.device)
    if kind is not FusedLamb:  # its norms join all elements: there every element is alike
        for start in starts:
            huge[start : start + WINDOW] = torch.linspace(-2, 2, WINDOW, device=bench.device)
    windows = [huge[start : start + WINDOW].clone() for start in starts]

    def stepped(values: list[Tensor]) -> list[Tensor]:
        params = [torch.nn.Parameter(one) for one in values]
        for param in params:
            param.grad = torch.full_like(param, 0.5)
        kind(params, **options).step()
        return [param.detach() for param in params]

    (huge,) = stepped([huge])
    for start, want in zip(starts, stepped(windows), strict=True):
        got = huge[start : start + WINDOW]
        close = torch.allclose(got.float(), want.float(), rtol=2.0**-7, atol=0)
        expect(close, f"{kind.__name__}: elements from {start} on")
    between = huge[8192 : 8192 + WINDOW]
    expect(bool((between != 1).all()), f"{kind.__name__}: elements from 8192 on were not stepped")


def check_skips(bench: Bench) -> str:
    """A flag on the device leaves every bit and every step count alone."""
    for name, dtype in (("noop_flag", torch.int32), ("found_inf", F32)):
        tensors = make(bench, SIZES, (BF16, BF16, F32), master=True, steps=True)
        before = copied(tensors)
        bench.kernel().run(
            tensors, hyper(**{name: torch.ones((), dtype=dtype, device=bench.device)})
        )
        for role, listed in tensors.roles.items():
            pairs = zip(listed, before.roles[role], strict=True)
            expect(all(torch.equal(*pair) for pair in pairs), f"{name}: {role} was written")
        expect(tensors.steps == before.steps, f"{name}: a step was counted")
    return "noop_flag and found_inf"


def check_stream(bench: Bench) -> str:
    """Work goes to the current stream: gradients made late on it are waited for."""
    numel = 1 << (16 if bench.small else 26)
    tensors = make(bench, (1,), (F32, F32, F32))
    for role in tensors.roles:
        tensors.roles[role] = [torch.full((numel,), 0.25, device=bench.device)]
    expected = copied(tensors)
    stream = bench.accelerator.Stream()
    bench.accelerator.synchronize()
    with bench.accelerator.stream(stream):
        for _ in range(50):
            tensors.grads[0].mul_(1.0)
        tensors.grads[0].add_(1.0)
        bench.kernel().run(tensors, hyper())
    bench.accelerator.synchronize()
    expected.grads[0].add_(1.0)
    bench.kernel().run(expected, hyper())
    bench.accelerator.synchronize()
    expect(torch.equal(tensors.params[0], expected.params[0]), "the step ran elsewhere")
    return "behind 51 kernels on a side stream"


def check_fork(bench: Bench) -> str:
    """A child of a process that probed can use CUDA."""
    if bench.device.type != "cuda":
        return "left out: not CUDA"
    command = [sys.executable, "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    expect(done.returncode == 0, done.stderr[-500:])
    return "a child of a probing process used CUDA"


def check_errors(bench: Bench) -> str:
    """A tensor elsewhere is refused by name before anything is written."""
    tensors = make(bench, (8,), (F32, F32, F32))
    tensors.roles["grads"] = [torch.empty(8, device="meta")]
    try:
        bench.kernel().run(tensors, hyper())
    except ValueError as error:
        expect("grads[0]" in str(error), str(error))
        return str(error)
    raise AssertionError("a tensor on another device was accepted")
