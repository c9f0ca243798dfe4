"""Check and measure the CUDA ops on a GPU: one call, under ten minutes, results with their method.

python benchmarks/gpu.py                    # writes benchmarks/results/<gpu>.json and .png
python benchmarks/gpu.py --rehearse cpu     # the same path with small sizes, writes nothing
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import gpu_checks
import gpu_ops
import torch
from gpu_measures import run_measures

import accel
from accel.errors import AccelError
from accel.jit import acquire, nvcc
from accel.jit.driver import read_driver
from accel.ops.adam_step import ADAM
from accel.ops.kernel import kernel_for
from accel.probe import Rejected

RESULTS = Path(__file__).parent / "results"
METHOD = (
    "Device times: median of 15 after 3 warm-up calls, between two events on the current stream. "
    "Wall times: median of 5 rounds of 10 steps each, synchronised around the round, ours and "
    "torch's in turns, three times; ratios are medians of the pairs' ratios. Bandwidth counts "
    "bytes read plus written; the limit is a copy of 4 GiB within device memory in the same run. "
    "Cold build: a fresh cache in a fresh process, imports not counted, beside the same commands "
    "run bare."
)
REACH = {
    ("adam_fp32", "of_copy"): 0.92,
    ("adam_fp32", "times_torch"): 1.0,
    ("adam_bf16_master", "of_copy"): 0.9,
    ("adam8bit_fp32", "times_adam_fp32"): 1.5,
    ("many_tensors", "times_torch"): 1.5,
}


def main() -> int:
    """Run everything; 0 when every check held, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", metavar="BACKEND", help="small sizes on another backend")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="only the picture of a result")
    options = parser.parse_args()
    if options.draw:
        draw(json.loads(options.draw.read_text()), options.draw.with_suffix(".png"))
        return 0
    start = time.perf_counter()
    try:
        bench = prepare(options.rehearse)
    except AccelError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    facts = surroundings(bench)
    print(" · ".join(f"{name} {facts[name]}" for name in facts if name != "method"), flush=True)
    facts["checks"] = gpu_checks.run_checks(bench, gpu_checks, gpu_ops)
    facts["measures"] = run_measures(bench)
    facts["reached"] = reached(facts["measures"])
    facts["seconds"] = round(time.perf_counter() - start, 1)
    for name, value in facts["measures"].items():
        print(f"{name}: {json.dumps(value)}")
    for line in facts["reached"].values():
        print(f"{'reached' if line['reached'] else 'MISSED '} {line['what']}")
    out = options.out or (None if options.rehearse else RESULTS)
    if out is not None:
        write(facts, out)
    print(f"{facts['seconds']} s")
    return 0 if all(check["held"] for check in facts["checks"].values()) else 1


def prepare(rehearsed: str | None) -> gpu_checks.Bench:
    """Build the op for the device, or say why it cannot be."""
    accel.set_accelerator(rehearsed or "cuda")
    accelerator = accel.get_accelerator()
    library = acquire(accelerator.create_op_builder("FusedAdamBuilder").recipe(), verbose=True)
    kernel = kernel_for(ADAM, library, accelerator.name)
    return gpu_checks.Bench(accelerator, kernel, accelerator.device(), bool(rehearsed))


def surroundings(bench: gpu_checks.Bench) -> dict[str, Any]:
    """Return what the results depend on."""
    driver, compiler = read_driver(), nvcc.find()
    return {
        "gpu": bench.accelerator.device_properties().name,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "driver": "none" if isinstance(driver, Rejected) else driver.version,
        "nvcc": "none" if isinstance(compiler, Rejected) else compiler.release,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "accel": accel.__version__,
        "digest": bench.kernel.key.rpartition(":")[2],
        "method": METHOD,
    }


def reached(measures: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each goal with what was measured."""
    goals = {
        f"{name}.{figure}": (measures[name][figure], goal, ">=")
        for (name, figure), goal in REACH.items()
    }
    build = measures["cold_build"]
    if "seconds" in build:
        goals["cold_build.seconds"] = (build["seconds"], build["allowed_seconds"], "<=")
    return {
        name: {
            "reached": value >= goal if relation == ">=" else value <= goal,
            "what": f"{name}: {value:.3f} (goal {relation} {goal:.3f})",
        }
        for name, (value, goal, relation) in goals.items()
    }


def write(facts: dict[str, Any], folder: Path) -> None:
    """Write the facts and the picture, named by the GPU."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^a-z0-9]+", "-", facts["gpu"].lower()).strip("-")
    (folder / f"{stem}.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"wrote {folder / stem}.json")
    try:
        draw(facts, folder / f"{stem}.png")
        print(f"wrote {folder / stem}.png")
    except ImportError as error:
        print(f"no picture ({error}): benchmarks/gpu.py --draw {folder / stem}.json makes it later")


def draw(facts: dict[str, Any], file: Path) -> None:
    """Draw the bandwidths beside the copy's, and the wall times of many tensors."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    measures = facts["measures"]
    torch_rate = 28 * measures["torch_fp32"]["elements"] / measures["torch_fp32"]["seconds"]
    rates = {
        "copy": measures["copy"]["bytes_per_s"],
        "Adam fp32": measures["adam_fp32"]["bytes_per_s"],
        "torch fused fp32": torch_rate,
        "Adam bf16 + masters": measures["adam_bf16_master"]["bytes_per_s"],
        "Adam 8-bit": measures["adam8bit_fp32"]["bytes_per_s"],
        "Lion fp32": measures["lion_fp32"]["bytes_per_s"],
        "LAMB fp32": measures["lamb_fp32"]["bytes_per_s"],
    }
    many = measures["many_tensors"]
    walls = {"accel": many["seconds"], "torch fused": many["torch_seconds"]}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), width_ratios=(2, 1))
    left.barh([*rates][::-1], [rate / 1e9 for rate in rates.values()][::-1], color="#4477aa")
    left.axvline(rates["copy"] / 1e9, color="#888888", linestyle=":")
    left.set_xlabel("GB/s, read plus written")
    left.set_title(f"{measures['adam_fp32']['elements']:,} elements")
    right.bar([*walls], [seconds * 1e6 for seconds in walls.values()], color="#cc6677")
    right.set_ylabel("µs a step, Python included")
    right.set_title(f"{many['tensors']} tensors of 1024")
    figure.suptitle(f"{facts['gpu']}, torch {facts['torch']}, {facts['date'][:10]}")
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
