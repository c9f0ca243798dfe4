"""The specs of the built-in ops, by op."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SPECS: Mapping[str, str] = MappingProxyType(
    {
        "adam8bit": "accel.testing.specs.adam8bit:Adam8bitSpec",
        "cpu_adagrad": "accel.testing.specs.adagrad:CPUAdagradSpec",
        "cpu_adam": "accel.testing.specs.adam:CPUAdamSpec",
        "cpu_lion": "accel.testing.specs.lion:CPULionSpec",
        "fused_adagrad": "accel.testing.specs.adagrad:FusedAdagradSpec",
        "fused_adam": "accel.testing.specs.adam:FusedAdamSpec",
        "fused_lamb": "accel.testing.specs.lamb:FusedLambSpec",
        "fused_lion": "accel.testing.specs.lion:FusedLionSpec",
        "multi_tensor": "accel.testing.specs.multi_tensor:MultiTensorSpec",
        "utils": "accel.testing.specs.utils:UtilsSpec",
    }
)
