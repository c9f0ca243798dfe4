"""A vendor's torch extension for the simulated device: ``import torch_sim`` gives ``torch.sim``.

It has what `torch_npu` and its like have, under a name that no vendor uses.
"""

from __future__ import annotations

import os

import torch
from simulator import collectives, library

library.bind("sim", os.environ.get("SIM_VISIBLE_DEVICES"))

from torch_sim import sim  # noqa: E402 - the device must have its name first

torch._register_device_module("sim", sim)
torch.utils.generate_methods_for_privateuse1_backend()
collectives.register("simccl", "sim")
