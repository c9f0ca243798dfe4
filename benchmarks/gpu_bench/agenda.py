"""What is run on the GPU, in which order, and for how long each item may take."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Item:
    """One check or measure.

    Attributes:
        name: what results call it.
        kind: whether it holds or not, or gives figures.
        call: the function, as ``"module:name"``; it is given the `Bench`.
        rung: which kernels a check of all kernels looks at.
        fresh: whether it needs a process that has launched nothing.
        seconds: how long it may take; on a GPU nearly all take a tenth of it.
    """

    name: str
    kind: Literal["check", "measure"]
    call: str
    rung: Literal["native", "portable"] = "native"
    fresh: bool = False
    seconds: int = 60


_HERE = __package__


def _check(module: str, name: str, **options: object) -> Item:
    return Item(name, "check", f"{_HERE}.{module}:check_{name}", **options)  # type: ignore[arg-type]


def _portable(module: str, name: str) -> Item:
    return Item(
        f"triton_{name}", "check", f"{_HERE}.{module}:check_{name}", "portable", seconds=120
    )


def _measure(module: str, name: str, seconds: int = 60) -> Item:
    return Item(name, "measure", f"{_HERE}.{module}:{name}", seconds=seconds)


AGENDA = (
    _check("checks", "build", seconds=150),
    _check("paths", "first_launch_in_capture", fresh=True),
    _check("checks", "types"),
    _check("ops", "ops"),
    _check("ops", "adam8bit"),
    _check("ops", "many"),
    _check("checks", "bits"),
    _check("bits", "wide_bits"),
    _check("checks", "skips"),
    _check("checks", "stream"),
    _check("checks", "errors"),
    _check("ops", "replays"),
    _check("ops", "random_bits"),
    _check("paths", "whole_capture"),
    _check("paths", "two_streams"),
    _check("paths", "offload"),
    _check("paths", "grad_scaler"),
    _check("ops", "devices"),
    _check("checks", "fork", seconds=120),
    _measure("measures", "copy"),
    _measure("measures", "adam_fp32"),
    _measure("measures", "adam_bf16_master"),
    _measure("measures", "adam8bit_fp32"),
    _measure("measures", "many_tensors"),
    _measure("measures", "lion_fp32"),
    _measure("measures", "lamb_fp32"),
    _measure("measures", "adam_bf16"),
    _measure("measures", "gpt2"),
    _portable("checks", "types"),
    _portable("ops", "ops"),
    _portable("ops", "adam8bit"),
    _check("paths", "triton_capture"),
    _measure("measures", "triton_adam_fp32"),
    _measure("measures", "cpu_adam_offload"),
    _measure("measures", "cold_build", 120),
    _measure("peers", "bitsandbytes_adam8bit"),
    _measure("peers", "deepspeed_adam", 180),
    _check("checks", "conformance", seconds=180),
    _check("checks", "huge"),
    _check("ops", "memory"),
    _check("ops", "full_memory"),
)


def items(pattern: str | None = None) -> list[Item]:
    """Return all items in order, or those whose name matches one of the patterns (by comma)."""
    patterns = (pattern or "*").split(",")
    return [
        item for item in AGENDA if any(fnmatch.fnmatch(item.name, pattern) for pattern in patterns)
    ]
