"""Building and loading one CPU op: beside the bare compiler, torch's builder and DeepSpeed's.

    python benchmarks/build.py [--op cpu_adam] [--rounds 5] [--no-peers] [--out runs/build]

Every measurement is a fresh process with an empty cache of its own; ours and the bare compiler
take turns, so that a busy machine slows both. Read the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from accel.bench.build import recipe_and_plan  # noqa: E402
from accel.bench.processes import (  # noqa: E402
    FIRST,
    LOAD,
    bare,
    child,
    cold,
    load,
    result,
    scratch,
    torch_builder,
)

DEEPSPEED = """
import json, time
import deepspeed
from deepspeed.ops.op_builder import CPUAdamBuilder
began = time.perf_counter()
CPUAdamBuilder().load(verbose=False)
print(json.dumps(time.perf_counter() - began))
"""


def crowd(op: str, count: int = 8) -> tuple[float, float]:
    """Return the slowest of `count` cold processes, and the wall time of all."""
    with scratch() as folder:
        began = time.perf_counter()
        loaders = [
            child(LOAD, "bare", op, ACCEL_CACHE_DIR=str(folder / "cache")) for _ in range(count)
        ]
        slowest = max(result(loader) for loader in loaders)
        return slowest, time.perf_counter() - began


def peak_memory(op: str) -> tuple[float, float]:
    """Return the peak of a cold build's processes in MB: all together, and without the asker."""
    import psutil

    peaks = [0.0, 0.0]
    with scratch() as folder:
        process = child(LOAD, "bare", op, ACCEL_CACHE_DIR=str(folder / "cache"))
        asker = psutil.Process(process.pid)
        done = threading.Event()

        def sample() -> None:
            while not done.wait(0.005):
                sizes = [_resident(one) for one in (asker, *_children(asker))]
                peaks[0] = max(peaks[0], sum(sizes))
                peaks[1] = max(peaks[1], sum(sizes[1:]))

        thread = threading.Thread(target=sample)
        thread.start()
        result(process)
        done.set()
        thread.join()
    return peaks[0] / 1e6, peaks[1] / 1e6


def _children(process: Any) -> list[Any]:
    import psutil

    try:
        found: list[Any] = process.children(recursive=True)
    except psutil.Error:
        return []
    return found


def _resident(process: Any) -> float:
    import psutil

    try:
        return float(process.memory_info().rss)
    except psutil.Error:
        return 0.0


def deepspeed_builder() -> tuple[float, float]:
    """Return cold and warm seconds of DeepSpeed's CPUAdamBuilder."""
    with scratch() as folder:
        variables = {"TORCH_EXTENSIONS_DIR": str(folder), "DS_ACCELERATOR": "cpu"}
        return result(child(DEEPSPEED, **variables)), result(child(DEEPSPEED, **variables))


def measure(op: str, rounds: int, peers: bool, show: Callable[[str], None]) -> dict[str, Any]:
    recipe, plan = recipe_and_plan(op)
    results: dict[str, Any] = {"op": op, "compiler": plan.compiler.label, "rounds": rounds}
    pairs = []
    for number in range(rounds):
        show(f"cold build {number + 1}/{rounds}")
        pairs.append((bare(plan), cold(op)))
    results["bare compiler"] = statistics.median(pair[0] for pair in pairs)
    results["cold build"] = statistics.median(pair[1] for pair in pairs)
    results["cold over 1.3 bare + 0.3"] = statistics.median(
        mine / (1.3 * theirs + 0.3) for theirs, mine in pairs
    )
    show("warm load")
    with scratch() as folder:
        load(op, folder / "cache", "torch", FIRST)
        for name, code in (("warm load", FIRST), ("warm load, modules imported", LOAD)):
            results[name] = statistics.median(
                load(op, folder / "cache", "torch", code) for _ in range(rounds)
            )
    show("8 cold processes")
    results["8 processes, slowest load"], results["8 processes, wall"] = crowd(op)
    show("memory")
    results["memory MB, with the asker"], results["memory MB, build"] = peak_memory(op)
    if peers:
        show("torch.utils.cpp_extension")
        results["torch cold"], results["torch warm"] = torch_builder(
            recipe.sources[0], recipe.include_dirs
        )
        if importlib.util.find_spec("deepspeed"):
            show("DeepSpeed")
            results["deepspeed cold"], results["deepspeed warm"] = deepspeed_builder()
    return results


def ratios(results: dict[str, Any]) -> dict[str, float]:
    found = {"cold / bare": results["cold build"] / results["bare compiler"]}
    for peer in ("torch", "deepspeed"):
        if f"{peer} cold" in results:
            found[f"{peer} cold / ours"] = results[f"{peer} cold"] / results["cold build"]
            found[f"{peer} warm / ours"] = results[f"{peer} warm"] / results["warm load"]
    return found


def draw(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = {
        "cold build": ("bare compiler", "cold build", "torch cold", "deepspeed cold"),
        "warm load": ("warm load", "torch warm", "deepspeed warm"),
    }
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.2))
    for axis, (title, keys) in zip(axes, names.items(), strict=True):
        shown = [key for key in keys if key in results]
        bars = axis.barh(shown, [results[key] for key in shown], color="#4477aa")
        axis.bar_label(bars, fmt="%.3g s", padding=3)
        axis.set_xscale("log")
        axis.margins(x=0.25)
        axis.invert_yaxis()
        axis.set_title(f"{title} of {results['op']}, seconds (log)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", default="cpu_adam", help="name of a CPU op with native sources")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--no-peers", action="store_true", help="leave torch and DeepSpeed out")
    parser.add_argument("--out", type=Path, default=Path("runs/build"), help="stem of the files")
    options = parser.parse_args()
    width = shutil.get_terminal_size().columns - 1
    terminal = sys.stderr.isatty()

    def show(text: str) -> None:
        end = "\r" if terminal else "\n"
        print(text.ljust(width) if terminal else text, end=end, file=sys.stderr, flush=True)

    results = measure(options.op, max(1, options.rounds), not options.no_peers, show)
    results["ratios"] = ratios(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(results, indent=2))
    draw(results, options.out.with_suffix(".png"))
    for name, value in (results | results.pop("ratios")).items():
        print(f"{name:28} {value if isinstance(value, str | int) else f'{value:.4g}'}")
    print(f"written: {options.out}.json and {options.out}.png")


if __name__ == "__main__":
    main()
