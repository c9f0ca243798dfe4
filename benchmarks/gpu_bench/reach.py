"""The goals, and what the measures come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Measures = dict[str, dict[str, Any]]


def _of_copy(name: str) -> Callable[[Measures], float]:
    return lambda found: found[name]["bytes_per_s"] / found["copy"]["bytes_per_s"]


def _ratio(name: str, peer: str) -> Callable[[Measures], float]:
    return lambda found: found[name][f"times_{peer}"]


GOALS: dict[str, tuple[Callable[[Measures], float], float]] = {
    "Adam fp32, of the copy's bandwidth": (_of_copy("adam_fp32"), 0.92),
    "Adam fp32, times torch fused": (_ratio("adam_fp32", "torch_fused"), 1.0),
    "Adam bf16 with masters, of the copy's bandwidth": (_of_copy("adam_bf16_master"), 0.9),
    "8-bit Adam, times Adam fp32": (_ratio("adam8bit_fp32", "adam_fp32"), 1.5),
    "8-bit Adam, times bitsandbytes": (_ratio("bitsandbytes_adam8bit", "bitsandbytes"), 1.0),
    "2000 tensors of 1024, times torch fused": (_ratio("many_tensors", "torch_fused"), 1.5),
    "cold build, allowed seconds over ours": (
        lambda found: found["cold_build"]["allowed_seconds"] / found["cold_build"]["seconds"],
        1.0,
    ),
}


def reached(measures: Measures) -> dict[str, dict[str, Any]]:
    """Return each goal that the measures so far tell of, with what was measured."""
    lines = {}
    for name, (figure, goal) in GOALS.items():
        try:
            value = figure(measures)
        except KeyError:
            continue
        said = f"{name}: {value:.3f} (goal {goal:.2f})"
        lines[name] = {"value": value, "reached": value >= goal, "what": said}
    return lines
