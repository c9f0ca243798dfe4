"""What a run is asked to do: options of the command line, merged with those of a checkpoint."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from storage import RunError


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides every number of a run, together with the text and the count of processes."""

    steps: int = 900
    batch: int = 8
    context: int = 128
    width: int = 128
    depth: int = 3
    heads: int = 4
    dropout: float = 0.0
    lr: float = 4e-3
    warmup: int = 50
    weight_decay: float = 0.1
    seed: int = 0
    optimizer: str = "fused"
    bf16: bool = False
    eval_every: int = 100

    def learning_rate(self, step: int) -> float:
        """Return the rate of `step`, from 0: up in a line, down in half a cosine to a twentieth."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        past = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.05 + 0.95 * (1 + math.cos(math.pi * past)) / 2)


# Any of these may differ in the rest of a run; the losses are then those of another run.
_MAY_CHANGE = frozenset({"steps", "lr", "warmup", "weight_decay", "optimizer", "eval_every"})


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the program.

    Attributes:
        given: the settings that the command line names, and no others.
        out: folder for the checkpoint and the curve.
        resume: go on from the checkpoint there.
        stop_at: write a checkpoint after this step and end, or ``None``.
        fsdp: split parameters over the processes.
    """

    given: dict[str, Any]
    out: Path
    resume: bool
    stop_at: int | None
    fsdp: bool

    def settings(self, saved: dict[str, Any] | None) -> Settings:
        """Return the settings of the run: the given, else the `saved`, else the defaults.

        Raises:
            RunError: a given setting contradicts the checkpoint's, or two do not fit together.
        """
        saved = saved or {}
        for name, value in self.given.items():
            if name in saved and name not in _MAY_CHANGE and saved[name] != value:
                option = f"--{name.replace('_', '-')}"
                raise RunError(
                    f"{option} {value} was asked for, but the checkpoint in {self.out} has "
                    f"{saved[name]}. Leave out {option}, or --resume."
                )
        if saved.get("optimizer") == "8bit" and self.given.get("optimizer", "8bit") != "8bit":
            raise RunError(
                f"--optimizer {self.given['optimizer']} was asked for, but the checkpoint in "
                f"{self.out} holds the 8-bit codes of Adam8bit's moments, which other optimizers "
                "take for numbers. Leave out --optimizer, or --resume."
            )
        known = {field.name for field in fields(Settings)}
        if not saved.keys() <= known:
            raise RunError(f"The checkpoint in {self.out} was written by another version.")
        settings = Settings(**(saved | self.given))
        if settings.width % (2 * settings.heads):
            raise RunError(
                f"--width {settings.width} does not divide among --heads {settings.heads}: "
                f"it must be a multiple of {2 * settings.heads}."
            )
        return settings


def parse(arguments: Sequence[str] | None = None) -> Request:
    """Read the command line; like argparse, leave with 2 and the usage where it makes no sense."""
    parser = argparse.ArgumentParser(
        description="Train a byte-level transformer on the sources of Python's standard library.",
        argument_default=argparse.SUPPRESS,
    )
    defaults = asdict(Settings())

    def setting(name: str, read: Callable[[str], Any], meaning: str) -> None:
        option = "--" + name.replace("_", "-")
        meaning = f"{meaning} (default {defaults[name]})"
        parser.add_argument(option, type=read, help=meaning, metavar=name.upper())

    setting("steps", _count, "steps of the whole run")
    setting("batch", _count, "windows per step and process")
    setting("context", _count, "bytes a prediction looks back on")
    setting("width", _count, "features per position")
    setting("depth", _count, "blocks")
    setting("heads", _count, "attention heads per block")
    setting("dropout", _share, "share of features dropped in training")
    setting("lr", _rate, "highest learning rate")
    setting("warmup", _natural, "steps until the highest learning rate")
    setting("weight_decay", _rate, "decoupled weight decay of the matrices")
    setting("seed", _natural, "of parameters, batches and dropout")
    setting("eval_every", _count, "steps between held-out losses, each with a checkpoint")
    parser.add_argument(
        "--optimizer",
        choices=("fused", "8bit", "torch"),
        help="accel.optim.FusedAdam (default), accel.optim.Adam8bit or torch.optim.AdamW",
    )
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder (default runs/)")
    parser.add_argument("--resume", action="store_true", default=False, help="go on from --out")
    parser.add_argument("--stop-at", type=_count, default=None, help="end early, to be resumed")
    parser.add_argument("--fsdp", action="store_true", default=False, help="shard by FSDP2")
    given = vars(parser.parse_args(arguments))
    named = {name: given.pop(name) for name in ("out", "resume", "stop_at", "fsdp")}
    return Request(given=given, **named)


def _number(
    kind: type[int] | type[float], least: float, below: float = math.inf
) -> Callable[[str], float]:
    """Return a reader of numbers from `least`, up to and without `below`."""
    wanted = f"a {'whole ' if kind is int else ''}number of at least {least}"
    wanted += "" if below == math.inf else f" and below {below}"

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)
        if not least <= value < below:
            raise argparse.ArgumentTypeError(f"expected {wanted}, not {text!r}")
        return value

    return read


_natural = _number(int, 0, 2**63)
_count = _number(int, 1)
_rate = _number(float, 0)
_share = _number(float, 0, 1)
