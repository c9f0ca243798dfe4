"""One of torchrun's processes: binds itself to its processors, then becomes the program.

``python -m accel.cli.rank PLACES ARGUMENTS``: PLACES are the CPUs of each rank, such as
``0,1;2,3``; ARGUMENTS are Python's.
"""

from __future__ import annotations

import os
import sys

from accel import environment


def main(arguments: list[str]) -> None:
    """Bind this process to the CPUs of its ``LOCAL_RANK`` and become Python with the rest."""
    places, *program = arguments
    rank = environment.local_rank()
    try:
        os.sched_setaffinity(0, {int(cpu) for cpu in places.split(";")[rank].split(",")})
    except (OSError, IndexError) as error:
        sys.stderr.write(f"accel run: rank {rank} is not bound to processors: {error}\n")
    os.execv(sys.executable, [sys.executable, *program])


if __name__ == "__main__":
    main(sys.argv[1:])
