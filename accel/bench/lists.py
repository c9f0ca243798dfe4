"""Clipping of gradients beside torch's, and what memory allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from accel.base import Accelerator
from accel.bench import bounds
from accel.bench.shapes import Case
from accel.bench.timing import Advance, Times, Turn, interleaved, summary
from accel.errors import AccelError
from accel.optim import clip_grad_norm_

METHOD = (
    "clip_grad_norm_ of all gradients. All contestants take turns in one process; before every "
    "turn each parameter gets a new gradient, which is not timed. Medians of the rounds after the "
    "first; a ratio is the median of the rounds' ratios. The limit reads every element once, then "
    "reads and writes it once. 'accel, no clipping' has a norm below the limit and writes nothing."
)
OURS = "accel"
DEFAULT = ("many", "middle", "big")
BUILDER = "MultiTensorBuilder"
# Four bytes of an element: read, read and written.
_BYTES_MOVED = 12
Params = list[torch.Tensor]


def contestants(params: Params, *, peers: bool) -> dict[str, Callable[[], object]]:
    """Return what takes turns, by name."""
    torchs = torch.nn.utils.clip_grad_norm_
    found: dict[str, Callable[[], object]] = {
        OURS: lambda: clip_grad_norm_(params, 1e-3),
        "accel, no clipping": lambda: clip_grad_norm_(params, 1e9),
    }
    if peers:
        found["torch foreach"] = lambda: torchs(params, 1e-3, foreach=True)
        found["torch loop"] = lambda: torchs(params, 1e-3, foreach=False)
    return found


def race(
    case: Case,
    accelerator: Accelerator,
    seconds: float,
    advance: Advance | None = None,
    *,
    peers: bool = True,
    rounds: int = 0,
) -> Times:
    """Return the times of all contestants and of the limit; arguments as in `interleaved`."""
    device = accelerator.device()
    params = [
        torch.empty(shape, dtype=torch.float32, device=device, requires_grad=True)
        for shape in case.shapes
    ]

    def renew() -> None:
        for param in params:
            param.grad = torch.full_like(param, 1e-3)

    work = contestants(params, peers=peers)
    name, bound = limit(params, case, device)
    work[name] = bound
    turns = {name: Turn(one, renew) for name, one in work.items()}
    return interleaved(
        turns, seconds, synchronize=accelerator.synchronize, advance=advance, rounds=rounds
    )


def limit(params: Params, case: Case, device: torch.device) -> tuple[str, bounds.Step]:
    """Return the limit with its name: a pass over the gradients, or a copy of as many bytes.

    The pass is for the CPU and needs a compiler.
    """
    if device.type == "cpu":
        try:
            return bounds.PASS, bounds.clip_pass(params)
        except AccelError:
            pass
    return bounds.COPY, bounds.copy_pass(_BYTES_MOVED * case.elements, device)


def measure(
    case: Case, accelerator: Accelerator, seconds: float, *, peers: bool, advance: Advance
) -> dict[str, Any]:
    """Return the entry of a results file for one case."""
    times = race(case, accelerator, seconds, advance, peers=peers)
    return {
        "title": case.title,
        "unit": "s a call",
        "bytes": _BYTES_MOVED * case.elements,
        "rounds": len(times[OURS]),
        "limit": next(name for name in times if name in bounds.LIMITS),
        "contestants": summary(times, dict.fromkeys(times, OURS)),
        "left_out": {} if peers else {"all peers": "not asked for"},
    }
