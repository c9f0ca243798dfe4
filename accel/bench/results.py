"""Results as a file: surroundings, method, and the figures of each case; imports no torch."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.errors import InvalidSetting
from accel.host import processors

if TYPE_CHECKING:
    from accel.base import Accelerator

FORMAT = 1
_PACKAGES = ("accel-torch", "torch", "deepspeed", "bitsandbytes", "triton")
# What two results must share, versions aside, to be results of the same thing.
_ALIKE = ("accelerator", "device", "cpus", "threads", "driver", "implementation", "engine",
          "file_system", "method")  # fmt: skip
Results = dict[str, Any]


def surroundings(accelerator: Accelerator | None) -> Results:
    """Return what figures depend on: date, machine, device and versions.

    Args:
        accelerator: the one that was measured; ``None``: the host's compiler.
    """
    facts: Results = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "accelerator": "cpu" if accelerator is None else accelerator.name,
        "device": processor_name(),
        "cpus": len(processors.usable()),
        "cores": processors.cores(processors.usable()),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions(),
    }
    if accelerator is not None and accelerator.device_type != "cpu":
        properties = accelerator.device_properties()
        facts |= {"device": properties.name, "driver": properties.driver}
    return facts


def conditions(accelerator: Accelerator, builder: str) -> Results:
    """Return how an op runs: its implementation, and the threads of torch and of CPU kernels."""
    import torch

    from accel.ops.threads import cpu_threads

    op = accelerator.create_op_builder(builder).load()
    return {
        "implementation": op.implementation,
        "threads": {"torch": torch.get_num_threads(), "accel": cpu_threads()},
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that take part, if installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor_name() -> str:
    """Return the processor's model as the kernel names it, or its architecture."""
    lines = processors.text_of(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write(results: Results, path: Path) -> None:
    """Write a file; one written before is replaced whole."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staged.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise InvalidSetting(
            f"{path} cannot be written: {error.strerror}. Name another file."
        ) from error


def read(path: Path) -> Results:
    """Return a file's results, of ``accel bench`` or of ``benchmarks/gpu.py``.

    Raises:
        InvalidSetting: there is no such file, or it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidSetting(f"{path} holds no JSON ({error}); name a file of --json.") from error
    if isinstance(found, dict) and isinstance(found.get("measures"), dict):
        return found
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        what = found.get("format", "none") if isinstance(found, dict) else type(found).__name__
        raise InvalidSetting(
            f"{path} holds no results of accel bench: format {what!r}, expected {FORMAT}. "
            "Name a file that --json has written."
        )
    return found


class Difference(NamedTuple):
    """One contestant in two results: seconds, and the part of the limit that each reaches.

    `limit_before` and `limit_after` are ``None`` for builds, which have no limit.
    """

    case: str
    contestant: str
    before: float
    after: float
    limit_before: float | None
    limit_after: float | None


def compare(before: Results, after: Results) -> Iterator[Difference]:
    """Yield the contestants that two results share.

    Raises:
        InvalidSetting: they are results of different benchmarks.
    """
    kinds = [one.get("benchmark", "gpu.py") for one in (before, after)]
    if kinds[0] != kinds[1] or "gpu.py" in kinds:
        raise InvalidSetting(
            f"The first file has results of {kinds[0]}, the second of {kinds[1]}: name two files "
            "of the same `accel bench` command."
        )
    for name, old in before["cases"].items():
        new = after["cases"].get(name)
        if new is None:
            continue
        limits = [limit_of(one) for one in (old, new)]
        for contestant, row in old["contestants"].items():
            if contestant in new["contestants"]:
                seconds = (row["seconds"], new["contestants"][contestant]["seconds"])
                parts = [limit and limit / own for limit, own in zip(limits, seconds, strict=True)]
                yield Difference(old["title"], contestant, *seconds, *parts)


def limit_of(case: Results) -> float | None:
    """Return the seconds of a case's limit; ``None`` if nothing limits it."""
    name = case["limit"]
    return None if name is None else float(case["contestants"][name]["seconds"])


def unlike(before: Results, after: Results) -> list[str]:
    """Return the differences between the surroundings, one line each."""
    pairs = [(name, before.get(name), after.get(name)) for name in _ALIKE]
    old, new = before.get("versions", {}), after.get("versions", {})
    pairs += [(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    return [
        f"{name}: {'changed' if name == 'method' else f'{one} -> {other}'}"
        for name, one, other in pairs
        if one != other
    ]
