"""Ops of the tests, built from what is found by their names."""

from __future__ import annotations

from typing import Any

from accel.builders.convention import conventional


def built(name: str, target: str) -> Any:
    """Return an op of the tests, compiled from what is found by its name."""
    op = conventional(f"{name.title()}Builder", name, target, "cpu")().load()
    assert op.implementation == "jit"
    return op
