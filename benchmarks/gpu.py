"""Check and measure the CUDA ops on a GPU in one call, with results written as they come.

    python benchmarks/gpu.py [--minutes 9]      # writes benchmarks/results/<gpu>.json and .png
    python benchmarks/gpu.py --rehearse cpu     # the same path with small sizes, into runs/

Nothing need be installed but torch, psutil and ninja. Prebuilt libraries in ``prebuilt/`` beside
this repository's README are used; without them each op is compiled first. See docs/gpu.md.
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

from gpu_bench import agenda, reach
from gpu_bench.conductor import Conductor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from accel import environment  # noqa: E402
from accel.bench import gpu_picture as picture  # noqa: E402
from accel.jit.tools import nvcc  # noqa: E402
from accel.nvidia.driver import Driver, read_driver  # noqa: E402
from accel.probe import Rejected  # noqa: E402

METHOD = (
    "Device times: median of 15 rounds after 3 warm-up rounds, between two events on the current "
    "stream, ours and the peers' in turns. Wall times: median of 7 rounds of 10 steps each after 2 "
    "warm-up rounds, synchronised around the round, in turns; ratios are medians of the rounds' "
    "ratios. Bandwidth counts bytes read plus written; the limit is a copy of 4 GiB within device "
    "memory in the same run. Cold build: a fresh cache in a fresh process, imports not counted, "
    "beside the same commands run bare."
)


class Results:
    """What was found so far, in a file that is whole after every entry."""

    def __init__(self, file: Path, facts: dict[str, Any]) -> None:
        self.file = file
        self.facts: dict[str, Any] = facts | {"checks": {}, "measures": {}, "reached": {}}
        file.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    def add(self, kind: str, name: str, value: dict[str, Any]) -> None:
        """Keep one check or measure, and what the goals come to with it."""
        self.facts[f"{kind}s"][name] = value
        self.facts["reached"] = reach.reached(self.facts["measures"])
        self.write()

    def write(self) -> None:
        """Replace the file by what is known now."""
        staged = self.file.with_suffix(".tmp")
        staged.write_text(json.dumps(self.facts, indent=1) + "\n")
        staged.replace(self.file)


def main() -> int:
    """Run everything; 0 when every check held, 1 when one did not, 2 without a GPU."""
    options = parse()
    if options.draw:
        picture.draw(json.loads(options.draw.read_text()), options.draw.with_suffix(".png"))
        return 0
    start = time.perf_counter()
    driver = read_driver()
    backend = options.rehearse or "cuda"
    if backend == "cuda" and (missing := no_gpu(driver)):
        print(missing, file=sys.stderr)
        return 2
    gpu = backend if isinstance(driver, Rejected) or not driver.gpus else driver.gpus[0].name
    folder = options.out or ROOT / ("runs/gpu" if options.rehearse else "benchmarks/results")
    stem = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    results = Results(folder / f"{stem}.json", surroundings(gpu, driver))
    print(" · ".join(f"{name} {value}" for name, value in results.facts.items()
                     if isinstance(value, str) and name != "method"), flush=True)  # fmt: skip
    conductor = Conductor(ROOT, backend, bool(options.rehearse), start + 60 * options.minutes)
    conductor.play(agenda.items(options.only), results.add)
    results.facts["seconds"] = round(time.perf_counter() - start, 1)
    results.facts.update(conductor.learned)
    results.write()
    return conclude(results)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9, help="end by then (default: 9)")
    parser.add_argument("--rehearse", metavar="BACKEND", help="small sizes on another backend")
    parser.add_argument("--only", metavar="PATTERN", help="items whose name matches, as in 'ops*'")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="only the picture of a result")
    return parser.parse_args()


def no_gpu(driver: Driver | Rejected) -> str:
    """Return why there is nothing to run on, in one line; empty if there is a GPU."""
    if isinstance(driver, Rejected):
        return str(driver)
    if not driver.gpus:
        return f"The driver {driver.version} has no GPU: look at nvidia-smi and the container."
    return ""


def surroundings(gpu: str, driver: Driver | Rejected) -> dict[str, Any]:
    """Return what the results depend on, as far as it is known without torch."""
    compiler = nvcc.find()
    return {
        "gpu": gpu,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "driver": "none" if isinstance(driver, Rejected) else driver.version,
        "nvcc": "none" if isinstance(compiler, Rejected) else compiler.release,
        "python": platform.python_version(),
        "prebuilt": str(environment.prebuilt_dirs() or "none"),
        "method": METHOD,
    }


def conclude(results: Results) -> int:
    """Print the goals, draw the picture, and return the exit status."""
    checks = results.facts["checks"]
    for line in results.facts["reached"].values():
        print(f"{'reached' if line['reached'] else 'MISSED '} {line['what']}")
    failed = [name for name, check in checks.items() if not check["held"]]
    print(f"{len(checks) - len(failed)} of {len(checks)} checks held"
          + (f"; not {', '.join(failed)}" if failed else ""))  # fmt: skip
    print(f"wrote {results.file}")
    try:
        picture.draw(results.facts, results.file.with_suffix(".png"))
        print(f"wrote {results.file.with_suffix('.png')}")
    except (ImportError, KeyError) as error:
        print(f"no picture ({error}); later: benchmarks/gpu.py --draw {results.file}")
    print(f"{results.facts['seconds']} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
