"""Importing this gives torch the simulated devices as ``hpu``, with ``torch.hpu``."""

from __future__ import annotations

import os

import torch
from simulator import library

library.bind("hpu", os.environ.get("HABANA_VISIBLE_MODULES"))

from habana_frameworks.torch import hpu

torch._register_device_module("hpu", hpu)
