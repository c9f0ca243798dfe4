"""`clip_grad_norm_` beside torch's and what memory alone allows, interleaved in one process.

    python benchmarks/lists.py [--shapes many,gpt2] [--rounds 31] [--out runs/lists]

Gradients are made anew before every turn, as a backward pass does; read medians and ratios. `pass`
reads every element once, then reads and writes it once, with addresses that are known; `walk` is
the bare Python loop that fetches the addresses of all gradients. `ours, no clipping` has a norm
below the limit, so that nothing is written. Whatever else the machine does is in the figures.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import torch  # noqa: E402
from optim import SHAPES, Shapes, effective_cores  # noqa: E402
from torch import Tensor  # noqa: E402

from accel.jit import Recipe, acquire  # noqa: E402
from accel.ops.threads import cpu_threads  # noqa: E402
from accel.optim import clip_grad_norm_  # noqa: E402

Params = list[Tensor]
Turn = Callable[[Params], Callable[[], Any]]
OURS, TORCH = "accel", "torch foreach"


@cache
def library() -> ctypes.CDLL:
    """Return the library of the bound."""
    source = Path(__file__).with_name("lists.cpp")
    return acquire(Recipe(name="lists_bench", backend="cpu", sources=(source,), openmp=True)).handle


def memory_pass(params: Params) -> Callable[[], Any]:
    """Return the two passes over gradients, whose addresses are taken beforehand."""
    function = library().bench_clip_pass
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_float,
                         ctypes.c_int32]  # fmt: skip
    addresses = array("q", [one.grad.data_ptr() for one in params])  # type: ignore[union-attr]
    numels = array("q", [one.numel() for one in params])

    def turn() -> None:
        both = [one.buffer_info()[0] for one in (addresses, numels)]
        function(*both, len(addresses), 0.5, cpu_threads())

    return turn


def walk(params: Params) -> Callable[[], Any]:
    """Return the bare loop over all addresses."""
    return lambda: [one.grad.data_ptr() for one in params]  # type: ignore[union-attr]


def contestants() -> dict[str, Turn]:
    """Return what takes turns, by name."""
    torchs = torch.nn.utils.clip_grad_norm_
    return {
        OURS: lambda params: lambda: clip_grad_norm_(params, 1e-3),
        "accel, no clipping": lambda params: lambda: clip_grad_norm_(params, 1e9),
        TORCH: lambda params: lambda: torchs(params, 1e-3, foreach=True),
        "torch loop": lambda params: lambda: torchs(params, 1e-3, foreach=False),
        "pass": memory_pass,
        "walk": walk,
    }


def race(shapes: Shapes, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of every contestant, taking turns, and the median of `cores`."""
    params = [torch.empty(shape, requires_grad=True) for shape in shapes]
    field = contestants()
    seconds: dict[str, list[float]] = {name: [] for name in field}
    cores = []
    for _ in range(rounds + 1):
        for name, make in field.items():
            for param in params:
                param.grad = torch.full_like(param, 1e-3)
            turn = make(params)
            began = time.perf_counter()
            turn()
            seconds[name].append(time.perf_counter() - began)
        cores.append(effective_cores())
    return {name: listed[1:] for name, listed in seconds.items()}, statistics.median(cores)


def report(title: str, seconds: dict[str, list[float]], cores: float) -> dict[str, float]:
    """Print and return medians; the least shows what a quiet machine gives."""
    medians = {name: statistics.median(listed) for name, listed in seconds.items()}
    print(f"\n{title}: {cpu_threads()} threads worth {cores:.1f} cores, "
          f"torch {torch.get_num_threads()}; a shared machine")  # fmt: skip
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        ratio = statistics.median(
            mine / other for mine, other in zip(seconds[OURS], seconds[name], strict=True)
        )
        least = min(seconds[name]) * 1e3
        print(f"  {name:20s} median {median * 1e3:8.3f} ms   least {least:8.3f} ms"
              f"   accel takes {ratio:6.2f} of it")  # fmt: skip
    for what, of in (("medians", statistics.median), ("least", min)):
        ours, walked, passed = (of(seconds[name]) for name in (OURS, "walk", "pass"))
        print(f"  accel / (walk + pass), {what}: {ours / (walked + passed):.2f}")
    return medians


def main() -> None:
    """Run the races that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="many,gpt2")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--out", type=Path, default=Path("runs/lists"))
    options = parser.parse_args()
    results = {}
    for key in options.shapes.split(","):
        title, shapes = SHAPES[key]
        results[key] = report(title, *race(shapes, options.rounds))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "lists.json"
    path.write_text(json.dumps({"seconds": results}, indent=2))
    print(f"\nWritten: {path}")


if __name__ == "__main__":
    main()
