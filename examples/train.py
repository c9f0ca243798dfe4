"""Train a small byte-level transformer on whatever accelerator is selected.

Run ``python examples/train.py``, or ``torchrun --nproc-per-node 2 examples/train.py --steps 20``.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import checkpoint
import data
import torch
from curve import draw_curve
from display import Display
from load import Load
from processes import find_world, leave, mean, process_group
from run import Run, make_run
from settings import Request, parse
from storage import CHECKPOINT, CURVE, RunError, run_folder
from torch import Tensor

import accel

_STEPS_BETWEEN_READINGS = 5


def introduce(run: Run, display: Display) -> None:
    """Say what runs where, and why there."""
    acc = run.acc
    properties = acc.device_properties(run.world.local_rank)
    threads = f", torch threads: {torch.get_num_threads()}" if acc.device_type == "cpu" else ""
    asked = os.environ.get("ACCELERATOR", "")
    detected = asked.lower() in {"", "auto"}
    why = "the first that can be used" if detected else f"ACCELERATOR={asked}"
    display.say(f"accelerator  {acc.name} ({properties.name}{threads}): {why}")
    names = [one.name for one in accel.candidates() if not one.accepted] if detected else []
    if names:
        display.say(f"             not usable here: {', '.join(names)}; accel report says why")
    builder = {"fused": "FusedAdamBuilder", "8bit": "Adam8bitBuilder"}.get(run.settings.optimizer)
    if builder is not None:
        op = acc.create_op_builder(builder).load()
        display.say(f"op           {op.name}: {op.implementation}")
    else:
        display.say("op           none: torch.optim.AdamW")
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    display.say(f"model        {parameters:,} parameters")
    display.say(f"text         {len(run.text.train):,} bytes, {len(run.text.held_out):,} held out")
    if run.world.size > 1:
        backend = acc.communication_backend_name()
        how = "FSDP2" if run.sharded else "DDP"
        display.say(f"processes    {run.world.size}, {how} over {backend}")
    if run.step:
        display.say(f"resumed      at step {run.step}")


def train(run: Run, last: int, out: Path, display: Display) -> float:
    """Go on until `last` steps are done, evaluating and saving at regular steps and at the end.

    Returns the throughput in tokens per second, evaluating and saving left out.
    """
    losses: list[Tensor] = []
    tokens, seconds = 0, 0.0
    started = time.perf_counter()
    while run.step < last:
        losses.append(run.advance())
        display.advance(run.step)
        pause = run.step == last or run.step % run.settings.eval_every == 0
        if not pause and run.step % _STEPS_BETWEEN_READINGS:
            continue
        run.train += [loss / math.log(2) for loss in mean(torch.stack(losses), run.world).tolist()]
        run.acc.synchronize()
        bytes_seen = len(losses) * run.settings.batch * run.settings.context * run.world.size
        passed = time.perf_counter() - started
        tokens, seconds = tokens + bytes_seen, seconds + passed
        display.losses(run.step, run.train[-1], bytes_seen / passed)
        losses.clear()
        if pause:
            run.held_out.append((run.step, run.evaluate()))
            display.evaluated(*run.held_out[-1])
            content = run.content()
            if run.world.leads:
                checkpoint.save(out / CHECKPOINT, content)
        started = time.perf_counter()
    return tokens / seconds


def report_speed(run: Run, rate: float, load: Load, display: Display) -> None:
    """Print the throughput, and whether other processes took the processors."""
    display.say(f"throughput   {rate:,.0f} tokens/s")
    # The other processes of this run would count among the others.
    slowed = load.hint() if run.world.size == 1 else ""
    if slowed:
        asleep = os.environ.get("GOMP_SPINCOUNT") or os.environ.get("OMP_WAIT_POLICY")
        on_host = run.acc.device_type == "cpu" and not asleep
        more = "; accel run examples/train.py lets waiting threads soon sleep" if on_host else ""
        display.say(f"slowed       {slowed}{more}")


def conclude(run: Run, out: Path, display: Display) -> None:
    """Print the held-out loss beside the baseline and draw the curve."""
    baseline = data.byte_entropy(run.windows)
    display.say(
        f"held out     {run.held_out[-1][1]:.3f} bits/byte after {run.step} steps; "
        f"byte frequencies alone: {baseline:.3f}"
    )
    display.say(f"checkpoint   {out / CHECKPOINT}")
    if not run.world.leads:
        return
    title = f"{run.acc.name}, {type(run.optimizer).__name__}, processes: {run.world.size}"
    if draw_curve(out / CURVE, run.train, run.held_out, baseline, title):
        display.say(f"loss curve   {out / CURVE}")
    else:
        display.say("loss curve   none: matplotlib is not installed")


def perform(request: Request) -> None:
    """Do what the command line asks for."""
    acc = accel.get_accelerator()
    world = find_world()
    acc.set_device(world.local_rank)
    saved = checkpoint.load(request.out / CHECKPOINT) if request.resume else None
    settings = request.settings(saved["settings"] if saved else None)
    # Of many processes only the first writes.
    folder = run_folder(request.out) if world.leads else nullcontext()
    with folder, process_group(acc, world, needed=request.fsdp):
        run = make_run(acc, world, settings, shard=request.fsdp)
        if saved:
            run.resume(saved)
        last = min(settings.steps, request.stop_at or settings.steps)
        if run.step >= last:
            raise RunError(f"The checkpoint is at step {run.step} of {last}: ask for more --steps.")
        with Display(settings.steps, shown=world.leads) as display:
            introduce(run, display)
            load = Load()
            rate = train(run, last, request.out, display)
            report_speed(run, rate, load, display)
            conclude(run, request.out, display)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code: 0, 2 for what the user can change, 130 for Ctrl-C."""
    request = parse(arguments)
    try:
        perform(request)
    except (accel.errors.AccelError, RunError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"train.py: interrupted; --resume goes on from {request.out}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    leave(main())
