"""The figures of README and of the documentation, from the committed ``benchmarks/results``.

    python benchmarks/readme.py                            write tables and plot anew
    python benchmarks/readme.py --check                    fail if a table is not up to date
    python benchmarks/readme.py --record runs/optim/optim.json   first make that a result

A page has a table between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks/results"
PLOT = RESULTS / "readme.png"
GPU = "nvidia-h100-80gb-hbm3"
PAGES = ("README.md", "docs/**/*.md")
BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
Facts = Mapping[str, Any]
# Contestants of benchmarks/optim.py, and how a result names them.
OURS = {"adam": "accel FusedAdam", "adam8bit": "accel Adam8bit", "lion": "accel FusedLion",
        "lamb": "accel FusedLamb"}  # fmt: skip
PEERS = {"torch_fused": "torch fused", "torch_foreach": "torch foreach",
         "deepspeed": "DeepSpeed CPUAdam"}  # fmt: skip
SHAPES = {"big": "1 tensor of 32 M", "gpt2": "GPT-2, 148 tensors", "many": "2000 tensors of 1024"}


def record(file: Path, note: str) -> Path:
    """Make a result of what ``benchmarks/optim.py`` measured on this machine just now."""
    found = json.loads(file.read_text())
    measures: dict[str, dict[str, float]] = {}
    for shape, case in found["cases"].items():
        timed = case["contestants"]
        seconds = {name: one["seconds"] for name, one in timed.items()}
        for stem, name in OURS.items():
            if name not in seconds:
                continue
            row = measures[f"{stem}_{shape}"] = {"seconds": seconds[name]}
            row["of_a_memory_pass"] = seconds[case["limit"]] / seconds[name]
            for peer, its_name in PEERS.items() if stem == "adam" else ():
                if its_name in seconds:
                    row[f"{peer}_seconds"] = seconds[its_name]
                    row[f"times_{peer}"] = timed[its_name]["ratio"]
    facts = {
        "cpu": found["device"],
        "cpus": found["cpus"],
        "date": found["date"],
        "load": found["load"],
        **found["versions"],
        "method": "benchmarks/optim.py, float32. " + found["method"],
        "note": note,
        "measures": measures,
    }
    words = re.sub(r"\(\w+\)|@.*|CPU|Processor", "", found["device"])
    name = "-".join(re.findall(r"[a-z0-9.]+", words.lower()))
    target = RESULTS / f"cpu-{name}.json"
    target.write_text(json.dumps(facts, indent=2) + "\n")
    return target


def gpu() -> Facts:
    """Return the result that README shows."""
    facts: Facts = json.loads((RESULTS / f"{GPU}.json").read_text())
    return facts


def cpu() -> Facts:
    """Return the newest result of a CPU."""
    found = [json.loads(file.read_text()) for file in RESULTS.glob("cpu-*.json")]
    facts: Facts = max(found, key=lambda facts: facts["date"])
    return facts


def table(head: str, *rows: str) -> str:
    """Return a table in Markdown; cells are given with bars between."""
    columns = head.count("|") + 1
    return "\n".join([f"| {head} |", "|" + "---|" * columns, *(f"| {row} |" for row in rows)])


def three() -> str:
    """Return the three figures that matter."""
    found = gpu()["measures"]
    fp32, many, small = found["adam_fp32"], found["many_tensors"], found["bitsandbytes_adam8bit"]
    each = found["adam8bit_fp32"]["bytes_each"]
    return table(
        "one optimizer step on an H100 | accel takes | and that is",
        f"Adam, one float32 tensor of {fp32['elements'] / 1e9:.2f} G | {_ms(fp32)} | "
        f"**{fp32['times_torch_fused']:.2f} times** as fast as torch `fused=True`, "
        f"{fp32['times_torch_foreach']:.1f} as torch's default",
        f"Adam, {many['tensors']} tensors of 1024 | {_ms(many)} | "
        f"**{many['times_torch_fused']:.2f} times** as fast as `fused=True`, "
        f"{many['times_torch_foreach']:.1f} as the default",
        f"8-bit Adam, 1 G of float32, {each:.1f} bytes moved an element instead of 28 | "
        f"{_ms(small)} | **{small['times_bitsandbytes']:.1f} times** as fast as bitsandbytes "
        f"{small['version']}",
    )


def _ms(measure: Mapping[str, float]) -> str:
    return f"{measure['seconds'] * 1e3:.1f} ms"


def h100() -> str:
    """Return all optimizers on the GPU."""
    found = gpu()["measures"]
    fp32, bf16, coded = found["adam_fp32"], found["adam_bf16"], found["adam8bit_fp32"]
    peer, many, shaped = found["bitsandbytes_adam8bit"], found["many_tensors"], found["gpt2"]

    def of_copy(name: str) -> str:
        return f"{found[name]['bytes_per_s'] / found['copy']['bytes_per_s']:.2f}"

    def over_torch(measure: Mapping[str, float]) -> str:
        return (
            f"torch fused {measure['times_torch_fused']:.2f}, "
            f"torch foreach {measure['times_torch_foreach']:.2f}"
        )

    return table(
        "optimizer | bandwidth, relative to a copy | speedup over",
        f"Adam, float32 | {of_copy('adam_fp32')} | {over_torch(fp32)}",
        f"Adam, bfloat16 with float32 masters | {of_copy('adam_bf16_master')} |",
        f"Adam, all bfloat16 | {of_copy('adam_bf16')} | "
        f"torch fused {bf16['times_torch_fused']:.2f}",
        f"8-bit Adam, float32 | {of_copy('adam8bit_fp32')} | "
        f"float32 Adam {coded['times_adam_fp32']:.2f}, "
        f"bitsandbytes {peer['times_bitsandbytes']:.1f}",
        f"Lion, LAMB, float32 | {of_copy('lion_fp32')}, {of_copy('lamb_fp32')} |",
        f"{many['tensors']} tensors, Adam, Python included: {_ms(many)} | | {over_torch(many)}",
        f"GPT-2's {shaped['tensors']} tensors, Adam, Python included: {_ms(shaped)} | | "
        f"{over_torch(shaped)}",
    ).replace("|  |", "| |")


def host() -> str:
    """Return Adam on the CPU."""
    found = cpu()["measures"]
    rows = []
    for shape, title in SHAPES.items():
        one = found[f"adam_{shape}"]
        peers = (f"{one[key]:.2f}" if key in one else "" for key in map("times_{}".format, PEERS))
        rows.append(f"{title} | {_ms(one)} | {' | '.join(peers)} | {one['of_a_memory_pass']:.2f}")
    return table(
        "Adam, float32 | accel | times torch fused | times torch foreach | times DeepSpeed | "
        "relative to a memory pass",
        *rows,
    )


def host_method() -> str:
    """Return what the figures of the CPU were measured with."""
    facts = cpu()
    peers = f"torch {facts['torch']}"
    if "deepspeed" in facts:
        peers += f", DeepSpeed {facts['deepspeed']}"
    return (
        f"{facts['cpu']}, {facts['cpus']} CPUs, {facts['date'][:10]}, Python {facts['python']}, "
        f"{peers}. {facts['note']}"
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "three": three,
    "h100": h100,
    "cpu": host,
    "cpu-method": host_method,
}


def renewed(text: str) -> str:
    """Return a page with its tables made anew; raises `KeyError` for an unknown name."""
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


def pages() -> list[Path]:
    """Return every page that may hold a table."""
    return [path for pattern in PAGES for path in sorted(REPOSITORY.glob(pattern))]


def races() -> dict[str, dict[str, float]]:
    """Return how much longer each peer takes than accel, by race.

    Times of a CPU that was busy are left to the tables, which have room to say so.
    """
    card, processor = gpu()["measures"], cpu()
    shapes = {} if "busy" in processor["note"] else SHAPES
    fp32, coded = card["adam_fp32"], card["bitsandbytes_adam8bit"]
    found = {
        f"H100: {fp32['elements'] / 1e9:.2f} G float32": fp32,
        "H100: GPT-2, 148 tensors": card["gpt2"],
        "H100: 2000 tensors of 1024": card["many_tensors"],
        "H100: 8-bit Adam, 1 G": coded,
        **{
            f"CPU: {title}": processor["measures"][f"adam_{shape}"]
            for shape, title in shapes.items()
        },
    }
    labels = {"times_torch_fused": "torch fused", "times_torch_foreach": "torch foreach",
              "times_bitsandbytes": "bitsandbytes", "times_deepspeed": "DeepSpeed"}  # fmt: skip
    return {
        race: {label: one[key] for key, label in labels.items() if key in one}
        for race, one in found.items()
    }


def draw(file: Path) -> None:
    """Draw the time of a step relative to accel's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colors = {"torch fused": "#6b7785", "torch foreach": "#b4bcc6",
              "bitsandbytes": "#d08a3c", "DeepSpeed": "#8a6bb0"}  # fmt: skip
    bars = sum(map(len, races().values()))
    figure, axis = pyplot.subplots(figsize=(8, 1.4 + 0.25 * bars))
    at, ticks = 0.0, {}
    drawn: set[str] = set()
    for race, peers in races().items():
        ticks[race] = at + (len(peers) - 1) * 0.5
        for peer, times in peers.items():
            label = peer if peer not in drawn else None
            axis.barh(at, times, height=0.85, color=colors[peer], label=label)
            axis.text(max(times, 1) + 0.05, at, f"{times:.2f}", va="center", fontsize=8)
            drawn.add(peer)
            at += 1
        at += 0.8
    axis.axvline(1, color="#00897b", linewidth=2, label="accel = 1")
    axis.set_yticks([*ticks.values()], [*ticks], fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel("time of one optimizer step, relative to accel's (shorter is faster)")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="upper center", ncols=5, fontsize=8, columnspacing=1.2)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(file, dpi=160, metadata={"Software": ""})


def main() -> None:
    """Write or check the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", type=Path, help="a result of benchmarks/optim.py")
    parser.add_argument("--note", default="", help="what was unusual about that run")
    options = parser.parse_args()
    if options.record:
        print(record(options.record, options.note))
    stale = [page for page in pages() if renewed(page.read_text()) != page.read_text()]
    if options.check:
        sys.exit(f"Run benchmarks/readme.py: {', '.join(map(str, stale))}" if stale else 0)
    for page in stale:
        page.write_text(renewed(page.read_text()))
        print(page)
    draw(PLOT)
    print(PLOT)


if __name__ == "__main__":
    main()
