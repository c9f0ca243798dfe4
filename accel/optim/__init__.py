"""Torch optimizers over the ops, for whatever device the parameters are on."""

from __future__ import annotations

from accel.optim.adagrad import CPUAdagrad
from accel.optim.adam import CPUAdam, FusedAdam
from accel.optim.lion import CPULion, FusedLion

__all__ = ["CPUAdagrad", "CPUAdam", "CPULion", "FusedAdam", "FusedLion"]
