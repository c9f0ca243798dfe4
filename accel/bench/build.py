"""Building and loading one CPU op, beside the bare compiler and torch's builder of extensions."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from accel import jit
from accel.bench import processes
from accel.bench.timing import Advance, Turn, interleaved, summary
from accel.errors import OpUnavailable, UnknownOp

if TYPE_CHECKING:
    from accel.jit import Plan, Recipe

METHOD = (
    "Every measurement is a fresh process with an empty cache of its own, imports not counted; "
    "ours and the bare compiler take turns. Medians of the rounds after the first; a ratio is the "
    "median of the rounds' ratios. The bare compiler runs the commands and nothing else; "
    "'warm load' finds the op built. torch.utils.cpp_extension builds the same kernel once."
)
COLD, WARM, BARE, TORCH = "accel, cold", "accel, warm load", "bare compiler", "torch extension"
OP = "cpu_adam"


def recipe_and_plan(op: str) -> tuple[Recipe, Plan]:
    """Return a CPU op's recipe, and the plan by which a bare compiler builds it whole.

    Raises:
        UnknownOp: the CPU has no such op with sources.
        OpUnavailable: it cannot be built here.
    """
    from accel.builders import cpu

    kinds = [one for one in vars(cpu).values() if getattr(one, "NAME", "")]
    by_name = {one.NAME: one() for one in kinds if one().has_sources()}
    if op not in by_name:
        known = ", ".join(sorted(by_name))
        raise UnknownOp(f"--op {op}: the CPU has no such op with sources. Known: {known}.")
    recipe = by_name[op].recipe()
    # The bare compiler takes the sources whole: one call for each, as anyone would.
    plan = jit.make_plan(recipe.replace(parts=()))
    if not isinstance(plan, jit.Plan):
        raise OpUnavailable(f"{op} cannot be built here: {plan}")
    return recipe, plan


def measure(op: str, seconds: float, *, peers: bool, advance: Advance) -> dict[str, Any]:
    """Return the entry of a results file for one op.

    torch's builder comes last, and only if `seconds` are not over.
    """
    recipe, plan = recipe_and_plan(op)
    until = time.perf_counter() + seconds
    with processes.scratch() as folder:
        warm = partial(processes.load, op, folder / "cache")
        warm()
        turns = {
            COLD: Turn(partial(processes.cold, op), own_clock=True),
            WARM: Turn(warm, own_clock=True),
            BARE: Turn(partial(processes.bare, plan), own_clock=True),
        }
        # Half of the time is for the peer, which builds once.
        share = seconds / 2 if peers else seconds
        times = interleaved(turns, share, advance=lambda part: advance(part * share / seconds))
    contestants = summary(times, dict.fromkeys(times, COLD))
    left_out = {} if peers else {TORCH: "not asked for"}
    if peers and time.perf_counter() < until:
        first, again = processes.torch_builder(recipe.sources[0], recipe.include_dirs)
        for name, found, ours in ((TORCH, first, COLD), (f"{TORCH}, warm", again, WARM)):
            ratio = found / contestants[ours]["seconds"]
            contestants[name] = {"seconds": found, "least": found, "against": ours, "ratio": ratio}
    elif peers:
        left_out[TORCH] = f"no time left: ask for more than --seconds {seconds:g}"
    advance(1.0)
    return {
        "title": f"{op}, {plan.compiler.label}",
        "unit": "s a build",
        "rounds": len(times[COLD]),
        "limit": None,
        "contestants": contestants,
        "left_out": left_out,
    }
