"""The specs of the built-in ops, by op."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SPECS: Mapping[str, str] = MappingProxyType(
    {
        "cpu_adam": "accel.testing.specs.adam:CPUAdamSpec",
        "fused_adam": "accel.testing.specs.adam:FusedAdamSpec",
    }
)
