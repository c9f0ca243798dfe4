"""Run items in this process, and tell of each as it begins and ends."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from importlib import import_module
from typing import Any

from .agenda import Item
from .conductor import MARK


def tell(**told: Any) -> None:
    """Write one line for the conductor."""
    sys.stdout.write(f"{MARK}{json.dumps(told)}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the items given; 3 if the device answers no more, so that a new process is needed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("backend")
    parser.add_argument("items", help="their fields, in JSON")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    bench = prepare(options.backend, options.small)
    for fields in json.loads(options.items):
        item = Item(**fields)
        tell(what="begin", name=item.name)
        tell(what="end", name=item.name, result=run(bench, item))
        if not usable(bench):
            return 3
    return 0


def prepare(backend: str, small: bool) -> Any:
    """Return what the items work with, and tell what the results depend on."""
    import torch

    import accel

    from .bench import Bench

    accel.set_accelerator(backend)
    accelerator = accel.get_accelerator()
    bench = Bench(accelerator, accelerator.device(), small)
    try:
        version = accel.__version__
    except ImportError:
        version = "not installed"
    tell(what="learned", facts={"torch": torch.__version__, "accel": version})
    return bench


def run(bench: Any, item: Item) -> dict[str, Any]:
    """Return what one item found, or how it failed."""
    start = time.perf_counter()
    try:
        found = _call(bench, item)
        bench.accelerator.synchronize()
    except Exception as error:
        traceback.print_exc()
        fact = f"{type(error).__name__}: {error}"[:2000]
        result: dict[str, Any]
        result = {"held": False, "fact": fact} if item.kind == "check" else {"failed": fact}
    else:
        result = {"held": True, "fact": found} if item.kind == "check" else dict(found)
    # Under `took`, since a measure's own figure is called seconds.
    key = "seconds" if item.kind == "check" else "took"
    return result | {key: round(time.perf_counter() - start, 2)}


def _call(bench: Any, item: Item) -> Any:
    if item.rung == "portable" and bench.device.type != "cuda":
        return "left out: not CUDA"
    module, _, function = item.call.partition(":")
    return getattr(import_module(module), function)(bench.on(item.rung))


def usable(bench: Any) -> bool:
    """Return whether the device still answers: an illegal access stays with its process."""
    try:
        bench.accelerator.synchronize()
        bench.accelerator.empty_cache()
    except Exception as error:
        print(f"the device answers no more: {error}")
        return False
    return True


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Destructors of a poisoned context may abort, or hang.
    os._exit(status)
