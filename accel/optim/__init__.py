"""Torch optimizers over the ops, for whatever device the parameters are on."""

from __future__ import annotations

from accel.optim.adam import CPUAdam, FusedAdam

__all__ = ["CPUAdam", "FusedAdam"]
