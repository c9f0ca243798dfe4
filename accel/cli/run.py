"""``accel run``: the script itself, or torchrun, with the environment that it needs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

import click

from accel.errors import AccelError

# torchrun's options that are passed on unchanged, with their help.
_HANDED_ON = {
    "--nnodes": "Machines: N, or MIN:MAX for an elastic job. Default: 1.",
    "--node-rank": "The number of this machine, for a job with --master-addr.",
    "--rdzv-endpoint": "HOST:PORT of one machine, the same on all.",
    "--rdzv-backend": "Default: c10d.",
    "--rdzv-id": "A name for the job, the same on all machines.",
    "--master-addr": "Address of machine 0, instead of --rdzv-endpoint.",
    "--master-port": "Its port.",
    "--max-restarts": "How often failed processes are restarted. Default: 0.",
}


class BadRun(click.ClickException):
    """A command line that cannot be run, and what to do instead, in one sentence."""

    exit_code = 2


class _Run(click.Command):
    """A command whose own options end where the program begins: at its name, or at ``-m``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        takes_value = {
            name
            for one in self.params
            if isinstance(one, click.Option) and not one.is_flag
            for name in one.opts
        }
        at = 0
        while at < len(args) and args[at].startswith("--") and args[at] != "--":
            at += 2 if args[at] in takes_value else 1
        if at < len(args) and args[at] != "--":
            args = [*args[:at], "--", *args[at:]]
        return super().parse_args(ctx, args)


def _options(command: Any) -> Any:
    for name, text in reversed(_HANDED_ON.items()):
        command = click.option(name, metavar=name.upper().strip("-").split("-")[-1], help=text)(
            command
        )
    return command


@click.command(
    cls=_Run,
    short_help="Run a program or torchrun, with the environment it needs.",
    context_settings={"allow_interspersed_args": False},
)
@click.option("--accelerator", metavar="NAME", default="", help="Set ACCELERATOR=NAME.")
@click.option(
    "--nproc",
    "--nproc-per-node",
    metavar="N",
    help="Processes on this machine, or auto: one for each device (CPU: each NUMA node).",
)
@click.option("--standalone", is_flag=True, help="One machine; the default.")
@_options
@click.argument(
    "program", nargs=-1, type=click.UNPROCESSED, metavar="(SCRIPT.PY | -m MODULE) [ARGS]..."
)
def run(
    accelerator: str, nproc: str | None, standalone: bool, program: tuple[str, ...], **options: Any
) -> None:
    """Run a Python program: SCRIPT.PY ARGS..., or -m MODULE ARGS...

    With --nproc or another option of torchrun's, this process becomes torchrun, otherwise the
    program. Signals and exit codes are theirs. Environment variables are set first, unless you
    have set them, and printed to stderr:

    GOMP_SPINCOUNT=1000: torch's threads (GNU OpenMP) spin for some microseconds while they wait
    for one another, then sleep. By default they spin for milliseconds, which takes processors from
    other processes and from the thread for which they wait.

    OMP_NUM_THREADS and ACCEL_NUM_THREADS: the physical cores, divided by the processes; torchrun
    alone sets 1. For one process only if a CPU quota is below the number of CPUs.

    If there are several NUMA nodes, processes are bound to them: on NVIDIA GPUs to the node of the
    GPU, on the CPU to a part of the nodes each. Devices are not distributed: every process sees
    all, and uses the one of its LOCAL_RANK.
    """
    from accel.cli.launch import Request, plan

    given = {"--" + name.replace("_", "-"): value for name, value in options.items() if value}
    if standalone:
        given = {"--standalone": "", **given}
    try:
        launch = plan(Request(accelerator, nproc, given, program))
    except AccelError as error:
        raise BadRun(str(error)) from error
    # If stderr cannot be written, the program runs all the same.
    with suppress(OSError):
        click.echo(f"accel run: {launch.summary}", err=True)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *launch.arguments], launch.variables)
