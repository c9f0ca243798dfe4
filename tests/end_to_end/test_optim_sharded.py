"""DTensor parameters (FSDP2, tensor parallel) under torchrun, two processes, gloo."""

from __future__ import annotations

from pathlib import Path

from sharded_runs import run_two


def test_optim_steps_shards_as_it_steps_the_whole(session_cache: Path) -> None:
    run_two("sharded_steps.py")
