"""``htcore``: lazy mode's steps, counted so that tests see them."""

from __future__ import annotations

from habana_frameworks.torch import hpu as hpu

steps = 0


def mark_step(device_str: str = "", sync: bool = False) -> None:
    """Launch what was collected."""
    global steps
    steps += 1
    if sync:
        hpu.synchronize()
