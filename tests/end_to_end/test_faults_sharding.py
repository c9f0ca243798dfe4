"""Sharded optimizers under torchrun, two processes, gloo: full state dicts; FSDP1 is refused."""

from __future__ import annotations

from pathlib import Path

from sharded_runs import run_two


def test_full_state_dicts_and_flat_parameters(session_cache: Path) -> None:
    run_two("sharded_faults.py")
