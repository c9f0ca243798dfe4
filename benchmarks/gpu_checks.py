"""Checks of the CUDA ops on a real GPU, for gpu.py: each returns a line of facts or raises."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from accel.base import Accelerator
from accel.ops import abi
from accel.ops.adam_step import ADAM, AdamHyper
from accel.ops.kernel import Kernel, kernel_for
from accel.ops.lists import TensorLists
from accel.optim import Adam8bit, FusedAdagrad, FusedAdam, FusedLamb, FusedLion
from accel.testing import run

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
SIZES = (1, 0, 3, 4, 8191, 8192, 8193, 100_003, 0)
# Two last places of float32, one of the others; relative to the value, or to this where it is
# smaller, since a difference of larger numbers is only as good as they are.
ULP = {F32: 2.0**-22, BF16: 2.0**-7, F16: 2.0**-10}
FLOOR = {F32: 0.05, BF16: 1e-4, F16: 2.0**-10}
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


@dataclass(frozen=True)
class Bench:
    """What every check works with."""

    accelerator: Accelerator
    kernel: Kernel
    device: torch.device
    small: bool


def expect(truth: bool, message: str) -> None:
    """Raise `AssertionError` with the message unless `truth`."""
    if not truth:
        raise AssertionError(message)


def hyper(**numbers: object) -> AdamHyper:
    """Return the numbers of the checks' steps."""
    base = {"lr": 0.02, "beta1": 0.9, "beta2": 0.995, "eps": 1e-6, "weight_decay": 0.1, "step": 3}
    flags = abi.ADAM_ADAMW | abi.ADAM_BIAS_CORRECTION
    return AdamHyper(**({"flags": flags} | base | numbers))


def make(
    bench: Bench,
    sizes: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...],
    *,
    master: bool = False,
    steps: bool = False,
    offset: int = 0,
) -> TensorLists:
    """Return tensors of these sizes, `offset` elements after an aligned address."""
    generator = torch.Generator().manual_seed(7)

    def place(values: Tensor, dtype: torch.dtype) -> Tensor:
        room = torch.empty(values.numel() + offset, dtype=dtype, device=bench.device)
        return room[offset:].copy_(values)

    param, grad, state = dtypes
    sources = [torch.randn(size, generator=generator) for size in sizes]
    roles = {
        "params": [place(x, param) for x in sources],
        "grads": [place((x * 3).cos(), grad) for x in sources],
        "exp_avgs": [place(x * 0.1, state) for x in sources],
        "exp_avg_sqs": [place(x * x * 0.01, state) for x in sources],
    }
    if master:
        roles["masters"] = [place(x, F32) for x in sources]
    counts = [torch.tensor(float(i), device=bench.device) for i in range(len(sizes))]
    return TensorLists(roles, counts if steps else None)


def copied(tensors: TensorLists, dtype: torch.dtype | None = None, device: str = "") -> TensorLists:
    """Return the same values elsewhere: in another type, on another device."""

    def copy(tensor: Tensor) -> Tensor:
        return tensor.to(device or tensor.device, dtype or tensor.dtype, copy=True)

    roles = {role: [copy(tensor) for tensor in listed] for role, listed in tensors.roles.items()}
    steps = tensors.steps
    counts = (
        None if steps is None else [step.to(device or step.device, copy=True) for step in steps]
    )
    extras = {
        role: [tensor.to(device or tensor.device, copy=True) for tensor in listed]
        for role, listed in tensors.extras.items()
    }
    return TensorLists(roles, counts, extras)


def worst(tensors: TensorLists, reference: TensorLists) -> float:
    """Return the largest error in units of the tensor's last place, over all roles."""
    most = 0.0
    for role, listed in tensors.roles.items():
        for got, want in zip(listed, reference.roles[role], strict=True):
            if got.numel() and role != "grads":
                scale = want.abs().clamp(min=FLOOR[got.dtype])
                error = ((got.double() - want).abs() / scale).max().item() / ULP[got.dtype]
                most = max(most, error)
    return most


def check_types(bench: Bench) -> str:
    """Every combination of element types, aligned and not, against the float64 reference."""
    most, cases = 0.0, 0
    for param in (F32, BF16, F16):
        for grad in {F32, param}:
            for state in {F32, param}:
                for offset in (0, 1):
                    tensors = make(bench, SIZES, (param, grad, state), offset=offset)
                    reference = copied(tensors, torch.float64)
                    kernel_for(ADAM, None, bench.kernel.backend).run(reference, hyper())
                    bench.kernel.run(tensors, hyper())
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
            bench.kernel.run(tensors, numbers)
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
        bench.kernel.run(tensors, hyper(**{name: torch.ones((), dtype=dtype, device=bench.device)}))
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
        bench.kernel.run(tensors, hyper())
    bench.accelerator.synchronize()
    expected.grads[0].add_(1.0)
    bench.kernel.run(expected, hyper())
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
        bench.kernel.run(tensors, hyper())
    except ValueError as error:
        expect("grads[0]" in str(error), str(error))
        return str(error)
    raise AssertionError("a tensor on another device was accepted")


def checks_of(*modules: ModuleType) -> Iterator[tuple[str, Callable[[Bench], str]]]:
    """Yield every check of the modules by name."""
    for module in modules:
        for name, value in vars(module).items():
            if name.startswith("check_"):
                yield name.removeprefix("check_"), value


def run_checks(bench: Bench, *modules: ModuleType) -> dict[str, dict[str, object]]:
    """Run every check; returns whether each held, what it said and how long it took."""
    results: dict[str, dict[str, object]] = {}
    for name, check in checks_of(*modules):
        start = time.perf_counter()
        try:
            fact, held = check(bench), True
        except Exception as error:
            fact, held = f"{type(error).__name__}: {error}", False
        seconds = round(time.perf_counter() - start, 2)
        results[name] = {"held": held, "fact": fact, "seconds": seconds}
        print(f"{'ok  ' if held else 'FAIL'} {name}: {fact} ({seconds} s)", flush=True)
    return results
