"""Torch optimizers over the ops, for parameters on any device."""

from __future__ import annotations

from accel.optim.adagrad import CPUAdagrad, FusedAdagrad
from accel.optim.adam import FusedAdam
from accel.optim.adam8bit import Adam8bit
from accel.optim.ademamix import AdEMAMix
from accel.optim.clipping import clip_grad_norm_
from accel.optim.lamb import FusedLamb
from accel.optim.lion import CPULion, FusedLion
from accel.optim.lion8bit import Lion8bit
from accel.optim.offload.cpu_adam import CPUAdam
from accel.optim.swap.reading import read_swap

__all__ = [
    "AdEMAMix",
    "Adam8bit",
    "CPUAdagrad",
    "CPUAdam",
    "CPULion",
    "FusedAdagrad",
    "FusedAdam",
    "FusedLamb",
    "FusedLion",
    "Lion8bit",
    "clip_grad_norm_",
    "read_swap",
]
