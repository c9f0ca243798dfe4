"""``accel run``: a Python program whose idle threads leave the processors to others."""

from __future__ import annotations

import os
import sys

import click

from accel import environment


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def run(program: tuple[str, ...]) -> None:
    """Run PROGRAM, what follows "python" on a command line, with threads that wait asleep.

    torch's threads (GNU OpenMP) spin while they wait for one another, which takes the processors
    from other processes and from the thread that is waited for. GOMP_SPINCOUNT limits that; your
    own GOMP_SPINCOUNT or OMP_WAIT_POLICY is left as it is.
    """
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *program], environment.for_sleeping_threads())
