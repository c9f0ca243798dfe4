"""All optimizers beside torch's, DeepSpeed's and what memory alone allows, in one process.

    python benchmarks/optim.py [--shapes big,gpt2,few,many,middle] [--rounds 15] [--out runs/optim]

`accel bench optim` measures the most used ones; this adds every other, a bfloat16 step with master
copies, and two figures for work on the kernels. `walk` is the bare Python loop over FusedAdam's
tensors that fetches the addresses of parameters, gradients and moments; `cores` is how many cores
the threads' arithmetic was worth: two virtual ones may share a real one, and what is bound by
arithmetic (Adam8bit) then takes up to twice as long.
With ACCEL_OPS=reference accel's contestants are the references, whose peers are torch's foreach.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

import accel  # noqa: E402
from accel import optim  # noqa: E402
from accel.bench import bounds, picture, results, tables, text  # noqa: E402
from accel.bench import optim as shared  # noqa: E402
from accel.bench.shapes import CASES, Case  # noqa: E402
from accel.bench.timing import interleaved, summary  # noqa: E402
from accel.ops.threads import cpu_threads  # noqa: E402

OURS_BF16 = "accel FusedAdam, bf16"
PASS_BF16 = f"{bounds.PASS}, bf16"
NEEDED = (shared.OURS, OURS_BF16)


def walk(lists: list[list[Tensor]]) -> bounds.Step:
    """Return the bare loop over all addresses."""
    params, *states = lists

    def step() -> None:
        for param, *moments in zip(params, *states, strict=True):
            param.data_ptr()
            param.grad.data_ptr()  # type: ignore[union-attr]
            for moment in moments:
                moment.data_ptr()

    return step


def contestants(peers: bool) -> dict[str, shared.Maker]:
    """Return every contestant by name."""
    made, maker = shared.made, shared.Maker
    found, _ = shared.contestants("cpu", peers=peers)
    found |= {
        "accel CPUAdam": maker(made(optim.CPUAdam)),
        "accel CPUAdagrad": maker(made(optim.CPUAdagrad)),
        "accel FusedLamb": maker(made(optim.FusedLamb)),
        "accel AdEMAMix": maker(made(optim.AdEMAMix)),
        OURS_BF16: maker(made(optim.FusedAdam, master_dtype=torch.float32), torch.bfloat16),
    }
    if peers:
        for kind in ("fused", "foreach"):
            found[f"torch Adagrad {kind}"] = maker(made(torch.optim.Adagrad, **{kind: True}))
    return {**{name: found.pop(name) for name in NEEDED}, **found}


def race(case: Case, rounds: int, makers: dict[str, shared.Maker]) -> dict[str, Any]:
    """Return what a results file has for one case, with `cores`, the median of all rounds."""
    accelerator = accel.accelerator_for("cpu")
    room = accelerator.available_memory()
    made, left_out = shared.field(case, makers, accelerator.device(), room)
    turns = {name: one.turn() for name, one in made.items()}
    turns["walk"] = made[shared.OURS].bound(walk)
    turns[bounds.PASS] = made[shared.OURS].bound(bounds.adam_pass)
    if OURS_BF16 in made:
        turns[PASS_BF16] = made[OURS_BF16].bound(bounds.adam_pass)
    cores: list[float] = []
    times = interleaved(
        turns, 0, rounds=rounds, advance=lambda part: cores.append(bounds.effective_cores())
    )
    against = {name: shared.against(name) for name in times}
    return {
        "title": case.title,
        "unit": "s a step",
        "rounds": rounds,
        "limit": bounds.PASS,
        "contestants": summary(times, against),
        "left_out": left_out,
        "cores": statistics.median(cores),
    }


def report(case: dict[str, Any]) -> None:
    """Print medians and ratios."""
    threads = f"{cpu_threads()} threads worth {case['cores']:.1f} cores"
    print(f"\n{case['title']}: {threads}, torch {torch.get_num_threads()}")
    print(text.lines(tables.COLUMNS, tables.rows(case)))
    seconds = {name: one["seconds"] for name, one in case["contestants"].items()}
    bound = seconds["walk"] + seconds[bounds.PASS]
    print(f"FusedAdam / (walk + pass) = {seconds[shared.OURS] / bound:.2f}")
    if PASS_BF16 in seconds:
        print(f"bf16: {seconds[PASS_BF16] / seconds[OURS_BF16]:.2f} of its own pass")
    for name, reason in case["left_out"].items():
        print(f"left out: {name}: {reason}")


def main() -> None:
    """Run the races that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="names of contestants that contain this")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/optim"))
    options = parser.parse_args()
    makers = contestants(not options.no_peers)
    if options.only:
        kept = options.only.split(",")
        makers = {n: m for n, m in makers.items() if n in NEEDED or any(k in n for k in kept)}
    cases = {}
    for key in options.shapes.split(","):
        cases[key] = race(CASES[key], options.rounds, makers)
        report(cases[key])
    facts = results.surroundings(accel.accelerator_for("cpu"))
    found = {"format": results.FORMAT, "benchmark": "optim", **facts, "method": shared.METHOD}
    options.out.mkdir(parents=True, exist_ok=True)
    results.write({**found, "cases": cases}, options.out / "optim.json")
    picture.draw({**found, "cases": cases}, options.out / "optim.png")
    print(f"\nWritten: {options.out / 'optim.json'}, {options.out / 'optim.png'}")


if __name__ == "__main__":
    main()
