"""Run by torchrun: a program whose second process is killed once, after some steps.

Arguments: the program, and the number of the step that kills.
"""

import os
import runpy
import signal
import sys

from torch.optim.optimizer import register_optimizer_step_post_hook

_steps = [0]


def _kill(*_: object) -> None:
    _steps[0] += 1
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and os.environ["RANK"] == "1" and _steps[0] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)


register_optimizer_step_post_hook(_kill)
runpy.run_path(sys.argv[1], run_name="__main__")
