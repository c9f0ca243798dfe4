"""One call of every op that has SYCL kernels, by names: what libsycl dumps then is looked at."""

from __future__ import annotations

import sys

import pytest
import torch
from sycl_device import SyclDevice

from accel.cpu import CPUAccelerator
from accel.targets import resolve
from accel.testing.judging import on_device_of
from accel.testing.specs import SPECS


def main(names: list[str]) -> None:
    """Call each op with the first case of its spec."""
    device = SyclDevice(pytest.MonkeyPatch())
    for name in names:
        spec = resolve(SPECS[name])()
        case = next(iter(spec.cases()))
        spec.call(device.op(name), case, on_device_of(spec, case, CPUAccelerator()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
