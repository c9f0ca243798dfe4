"""Importing this gives torch the simulated devices as ``hpu``, with ``torch.hpu``."""

from __future__ import annotations

import os

import torch
from simulator import library

library.bind("hpu", os.environ.get("HABANA_VISIBLE_MODULES"))

from habana_frameworks.torch import hpu  # noqa: E402 - the device must be there first

torch._register_device_module("hpu", hpu)
