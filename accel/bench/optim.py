"""Optimizers beside torch's and those of other installed packages, and what memory allows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from accel import environment, optim
from accel.base import Accelerator
from accel.bench import bounds
from accel.bench.shapes import Case
from accel.bench.timing import Advance, Times, Turn, interleaved, summary
from accel.errors import AccelError

METHOD = (
    "All contestants take turns in one process; before every turn each parameter gets a new "
    "gradient, which is not timed. Medians of the rounds after the first; a ratio is the median of "
    "the rounds' ratios. The limit reads and writes the bytes of Adam's step (28 for an element) "
    "with next to no arithmetic. DeepSpeed's and bitsandbytes' optimizers are taken if installed."
)
OURS, OURS_8BIT = "accel FusedAdam", "accel Adam8bit"
DEFAULT = ("many", "middle", "big")
BUILDER = "FusedAdamBuilder"
# Parameter, gradient and two moments of four bytes each; all but the gradient are written, too.
_BYTES_MOVED = 28
_BYTES_KEPT = 16


class Maker(NamedTuple):
    """A contestant: what makes its optimizer of parameters, and their type."""

    make: Callable[[Any], Any]
    dtype: torch.dtype = torch.float32


def made(kind: Any, **options: Any) -> Callable[[Any], Any]:
    """Return a maker of an optimizer."""
    return lambda params: kind(params, lr=1e-4, **options)


def contestants(device_type: str, *, peers: bool) -> tuple[dict[str, Maker], dict[str, str]]:
    """Return the contestants by name, and the peers that are left out, each with the reason."""
    found = {
        OURS: Maker(made(optim.FusedAdam)),
        OURS_8BIT: Maker(made(optim.Adam8bit)),
        "accel FusedLion": Maker(made(optim.FusedLion)),
    }
    if not peers:
        return found, {"all peers": "not asked for"}
    found["torch fused"] = Maker(made(torch.optim.AdamW, fused=True))
    found["torch foreach"] = Maker(made(torch.optim.AdamW, foreach=True))
    others: dict[str, Callable[[], dict[str, Maker]]] = {
        "DeepSpeed": lambda: _deepspeed(device_type),
        "bitsandbytes": _bitsandbytes,
    }
    left_out = {}
    if environment.deepspeed_mode():
        del others["DeepSpeed"]
        left_out["DeepSpeed"] = "ACCEL_DEEPSPEED is set, by which its optimizer is accel's"
    for name, find in others.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found |= find()
        except Exception as error:  # An import runs much that is not ours.
            left_out[name] = _reason(error)
    return found, left_out


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "not installed"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _deepspeed(device_type: str) -> dict[str, Maker]:
    from torch.utils import cpp_extension

    adam = import_module("deepspeed.ops.adam")
    on_host = device_type == "cpu"
    name, op = ("DeepSpeedCPUAdam", "cpu_adam") if on_host else ("FusedAdam", "fused_adam")
    lock = Path(cpp_extension._get_build_directory(op, verbose=False), "lock")
    if lock.exists():
        raise AccelError(
            f"its build would wait for {lock}; remove that file if no build is running"
        )
    return {f"DeepSpeed {name.removeprefix('DeepSpeed')}": Maker(made(getattr(adam, name)))}


def _bitsandbytes() -> dict[str, Maker]:
    bitsandbytes = import_module("bitsandbytes")
    return {
        f"bitsandbytes {kind}": Maker(made(getattr(bitsandbytes.optim, kind)))
        for kind in ("AdamW", "AdamW8bit")
    }


def against(name: str) -> str:
    """Return the contestant that another one is compared with."""
    return OURS_8BIT if "8bit" in name and name != OURS_8BIT else OURS


class Contestant:
    """Parameters on a device, and the optimizer that steps them.

    Args:
        case: shapes of the parameters.
        maker: makes the optimizer.
        device: of the parameters.
    """

    def __init__(self, case: Case, maker: Maker, device: torch.device) -> None:
        self.params = [
            torch.rand(shape, dtype=maker.dtype, device=device).requires_grad_()
            for shape in case.shapes
        ]
        self.optimizer = maker.make(self.params)
        self.renew()
        self.optimizer.step()

    def renew(self) -> None:
        """Give every parameter a new gradient, as a backward pass does."""
        for param in self.params:
            param.grad = torch.full_like(param, 1e-3)

    def turn(self) -> Turn:
        """Return a step as a contestant's turn."""
        return Turn(self.optimizer.step, self.renew)

    def bound(self, make: Callable[[list[list[Tensor]]], bounds.Step]) -> Turn:
        """Return another operation on the same tensors."""
        states = [self.optimizer.state[param] for param in self.params]
        keys = [key for key in ("exp_avg", "exp_avg_sq", "master") if key in states[0]]
        lists = [self.params, *([state[key] for state in states] for key in keys)]
        return Turn(make(lists), self.renew)


def field(
    case: Case, makers: Mapping[str, Maker], device: torch.device, available: int
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Return the contestants that can be made and fit into `available` bytes, and the others."""
    found: dict[str, Contestant] = {}
    left_out: dict[str, str] = {}
    room = int(0.7 * available / (_BYTES_KEPT * case.elements))
    for name, maker in makers.items():
        if len(found) >= max(1, room):
            left_out[name] = f"no memory left: {available / 1e9:.1f} GB were available"
            continue
        try:
            found[name] = Contestant(case, maker, device)
        except Exception as error:  # A peer may lack a kernel for this device.
            if name.startswith("accel"):
                raise
            left_out[name] = _reason(error)
    return found, left_out


def limit(ours: Contestant, case: Case, device: torch.device) -> tuple[str, Turn]:
    """Return the limit with its name: a pass over Adam's own tensors, or a copy of as many bytes.

    The pass is for the CPU and needs a compiler.
    """
    if device.type == "cpu":
        try:
            return bounds.PASS, ours.bound(bounds.adam_pass)
        except AccelError:
            pass
    work = bounds.copy_pass(_BYTES_MOVED * case.elements, device)
    return bounds.COPY, Turn(work, ours.renew)


def race(
    case: Case,
    makers: Mapping[str, Maker],
    accelerator: Accelerator,
    seconds: float,
    advance: Advance | None = None,
    rounds: int = 0,
) -> tuple[Times, dict[str, str]]:
    """Return the times of all contestants and of the limit, and who is left out and why.

    See `accel.bench.timing.interleaved` for `seconds`, `advance` and `rounds`.
    """
    device = accelerator.device()
    made_ones, left_out = field(case, makers, device, accelerator.available_memory())
    turns = {name: one.turn() for name, one in made_ones.items()}
    name, turns_limit = limit(made_ones[OURS], case, device)
    turns[name] = turns_limit
    times = interleaved(
        turns, seconds, synchronize=accelerator.synchronize, advance=advance, rounds=rounds
    )
    return times, left_out


def measure(
    case: Case, accelerator: Accelerator, seconds: float, *, peers: bool, advance: Advance
) -> dict[str, Any]:
    """Return the entry of a results file for one case."""
    makers, absent = contestants(accelerator.device_type, peers=peers)
    times, left_out = race(case, makers, accelerator, seconds, advance)
    return {
        "title": case.title,
        "unit": "s a step",
        "bytes": _BYTES_MOVED * case.elements,
        "rounds": len(times[OURS]),
        "limit": next(name for name in times if name in bounds.LIMITS),
        "contestants": summary(times, {name: against(name) for name in times}),
        "left_out": {**absent, **left_out},
    }
