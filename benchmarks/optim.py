"""Optimizers beside torch's, DeepSpeed's and what memory alone allows, in one process.

    python benchmarks/optim.py [--shapes big,gpt2,few,many,middle] [--rounds 15] [--out runs/optim]

Contestants take turns and gradients are made anew before every step; read medians and ratios.
`pass` reads and writes the very tensors of FusedAdam, with next to no arithmetic; `walk` is the
bare Python loop over them that fetches the addresses of parameters, gradients and moments.
`cores` is how many cores the threads' arithmetic was worth: two virtual ones may share a real one,
and what is bound by arithmetic (Adam8bit) then takes up to twice as long.
With ACCEL_OPS=reference accel's contestants are the references, whose peers are torch's foreach.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import statistics
import sys
import time
import warnings
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from accel import optim  # noqa: E402
from accel.jit import Recipe, acquire  # noqa: E402
from accel.ops.threads import cpu_threads  # noqa: E402

Step = Callable[[], Any]
Shapes = list[tuple[int, ...]]
OURS, OURS_BF16 = "accel FusedAdam", "accel FusedAdam, bf16"
LAYERS, WIDTH = 12, 768
GPT2 = [(50257, WIDTH), (1024, WIDTH), (WIDTH,), (WIDTH,)] + LAYERS * [
    (WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,),
    (WIDTH,), (WIDTH,), (4 * WIDTH, WIDTH), (4 * WIDTH,), (WIDTH, 4 * WIDTH), (WIDTH,),
]  # fmt: skip
SHAPES: dict[str, tuple[str, Shapes]] = {
    "big": ("1 x 32 M", [(32 << 20,)]),
    "gpt2": ("GPT-2 124M", GPT2),
    "few": ("100 x 1024", [(1024,)] * 100),
    "many": ("2000 x 1024", [(1024,)] * 2000),
    "middle": ("300 x 10 000", [(10_000,)] * 300),
}


class Contestant:
    """Parameters and what steps them.

    Args:
        shapes: of the parameters.
        dtype: of the parameters.
        make: makes an optimizer of them.
    """

    def __init__(self, shapes: Shapes, dtype: torch.dtype, make: Callable[[Any], Any]) -> None:
        self.params = [torch.rand(shape, dtype=dtype).requires_grad_() for shape in shapes]
        self.optimizer = make(self.params)
        self.step: Step = self.optimizer.step
        self.seconds: list[float] = []
        self.turn()

    def turn(self) -> None:
        """Give every parameter a new gradient, as a backward pass does, and time one step."""
        for param in self.params:
            param.grad = torch.full_like(param, 1e-3)
        began = time.perf_counter()
        self.step()
        self.seconds.append(time.perf_counter() - began)

    def median(self) -> float:
        """Return the median of the steps after the first, in seconds."""
        return statistics.median(self.seconds[1:])


class Bound(Contestant):
    """Something that is done to another contestant's tensors."""

    def __init__(self, other: Contestant, make: Callable[[list[list[Tensor]]], Step]) -> None:
        self.params = other.params
        states = [other.optimizer.state[param] for param in other.params]
        keys = [key for key in ("exp_avg", "exp_avg_sq", "master") if key in states[0]]
        self.step = make([self.params, *([state[key] for state in states] for key in keys)])
        self.seconds = []
        self.turn()


@cache
def streams() -> ctypes.CDLL:
    """Return the library of the bounds."""
    source = Path(__file__).with_name("streams.cpp")
    return acquire(Recipe(name="streams", backend="cpu", sources=(source,), openmp=True)).handle


def effective_cores() -> float:
    """Return how many times one thread's arithmetic all threads get done together."""
    function = streams().bench_arithmetic
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_int32]
    seconds = []
    for threads in (1, cpu_threads()):
        began = time.perf_counter()
        function(threads)
        seconds.append(time.perf_counter() - began)
    return cpu_threads() * seconds[0] / seconds[1]


def memory_pass(lists: list[list[Tensor]]) -> Step:
    """Return a pass over the bytes that Adam reads and writes."""
    function = streams().bench_pass
    function.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_int64, ctypes.c_int32]
    params, *states = lists
    parameters, *moments = (_addresses(listed) for listed in lists)
    masters = moments.pop() if len(states) == 3 else None
    numels = array("q", [param.numel() for param in params])

    def step() -> None:
        grads = _addresses([param.grad for param in params])
        arrays = [parameters, grads, masters, *moments, numels]
        function(*(a and a.buffer_info()[0] for a in arrays), len(params), cpu_threads())

    return step


def walk(lists: list[list[Tensor]]) -> Step:
    """Return the bare loop over all addresses."""
    params, *states = lists

    def step() -> None:
        for param, *moments in zip(params, *states, strict=True):
            param.data_ptr()
            param.grad.data_ptr()  # type: ignore[union-attr]
            for moment in moments:
                moment.data_ptr()

    return step


def _addresses(tensors: list[Any]) -> array[int]:
    return array("q", map(Tensor.data_ptr, tensors))


def made(cls: Any, **options: Any) -> Callable[[Any], Any]:
    """Return a maker of an optimizer."""
    return lambda params: cls(params, lr=1e-4, **options)


def deepspeed_adam() -> Callable[[Any], Any] | None:
    """Return DeepSpeed's CPU Adam, or ``None`` where it cannot be had."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from deepspeed.ops.adam import DeepSpeedCPUAdam
    except ImportError:
        return None
    return made(DeepSpeedCPUAdam)


def contestants(peers: bool) -> dict[str, tuple[torch.dtype, Callable[[Any], Any]]]:
    """Return every contestant by name; peers are torch and DeepSpeed."""
    single, half = torch.float32, torch.bfloat16
    found = {
        OURS: (single, made(optim.FusedAdam)),
        "accel CPUAdam": (single, made(optim.CPUAdam)),
        "accel Adam8bit": (single, made(optim.Adam8bit)),
        "accel FusedLion": (single, made(optim.FusedLion)),
        "accel CPUAdagrad": (single, made(optim.CPUAdagrad)),
        "accel FusedLamb": (single, made(optim.FusedLamb)),
        OURS_BF16: (half, made(optim.FusedAdam, master_dtype=single)),
    }
    if peers:
        found["torch fused"] = (single, made(torch.optim.AdamW, fused=True))
        found["torch foreach"] = (single, made(torch.optim.AdamW, foreach=True))
        found["torch Adagrad fused"] = (single, made(torch.optim.Adagrad, fused=True))
        found["torch Adagrad foreach"] = (single, made(torch.optim.Adagrad, foreach=True))
        deepspeed = deepspeed_adam()
        if deepspeed is not None:
            found["DeepSpeed CPUAdam"] = (single, deepspeed)
    return found


def fitting(shapes: Shapes, names: dict[str, Any]) -> dict[str, Any]:
    """Return the contestants whose tensors fit into free memory together, and say who does not."""
    import psutil

    # Parameters, gradients, two moments and a master copy, four bytes each.
    each = 20 * sum(math.prod(shape) for shape in shapes)
    room = int(0.7 * psutil.virtual_memory().available / each)
    first = (OURS, OURS_BF16, "torch fused", "DeepSpeed CPUAdam", "accel Adam8bit")
    order = sorted(names, key=lambda name: first.index(name) if name in first else len(first))
    if order[room:]:
        print(f"left out, for want of memory: {', '.join(order[room:])}")
    return {name: names[name] for name in order[:room]}


def race(shapes: Shapes, rounds: int, names: dict[str, Any]) -> tuple[dict[str, float], float]:
    """Return the median seconds of every contestant, taking turns, and the median of `cores`."""
    names = fitting(shapes, names)
    field = {name: Contestant(shapes, dtype, make) for name, (dtype, make) in names.items()}
    field["walk"] = Bound(field[OURS], walk)
    field["pass"] = Bound(field[OURS], memory_pass)
    field["pass, bf16"] = Bound(field[OURS_BF16], memory_pass)
    cores = []
    for _ in range(rounds):
        for contestant in field.values():
            contestant.turn()
        cores.append(effective_cores())
    medians = {name: contestant.median() for name, contestant in field.items()}
    return medians, statistics.median(cores)


def report(title: str, medians: dict[str, float], cores: float) -> None:
    """Print medians and ratios."""
    limit = medians["pass"]
    threads = f"{cpu_threads()} threads worth {cores:.1f} cores, torch {torch.get_num_threads()}"
    print(f"\n{title}: {threads}")
    for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
        own = medians["pass, bf16"] if "bf16" in name else limit
        ratio = medians[OURS] / seconds
        print(
            f"  {name:24s} {seconds * 1e3:9.3f} ms   bandwidth {own / seconds:6.2f} of the pass"
            f"   FusedAdam takes {ratio:6.2f} of it"
        )
    bound = medians["walk"] + limit
    print(f"  FusedAdam / (walk + pass) = {medians[OURS] / bound:.2f}")


def draw(results: dict[str, dict[str, float]], path: Path) -> None:
    """Write the medians as a bar chart."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(5 * len(results), 5), squeeze=False)
    for axis, (key, medians) in zip(axes[0], results.items(), strict=True):
        ordered = sorted(medians.items(), key=lambda item: -item[1])
        colours = ["tab:green" if n.startswith("accel") else "tab:gray" for n, _ in ordered]
        axis.barh([n for n, _ in ordered], [s * 1e3 for _, s in ordered], color=colours)
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter("")
        axis.set_xlabel("ms per step")
        axis.set_title(SHAPES[key][0])
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the races that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="names of contestants that contain this")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/optim"))
    options = parser.parse_args()
    field = contestants(not options.no_peers)
    needed = {OURS, OURS_BF16}
    if options.only:
        kept = options.only.split(",")
        field = {n: m for n, m in field.items() if n in needed or any(k in n for k in kept)}
    results, cores = {}, {}
    for key in options.shapes.split(","):
        title, shapes = SHAPES[key]
        results[key], cores[key] = race(shapes, options.rounds, field)
        report(title, results[key], cores[key])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "optim.json").write_text(
        json.dumps({"seconds": results, "cores": cores}, indent=2)
    )
    draw(results, options.out / "optim.png")
    print(f"\nWritten: {options.out / 'optim.json'}, {options.out / 'optim.png'}")


if __name__ == "__main__":
    main()
