"""The specs of the built-in ops, by op.

An optimizer's is ``<Class>Spec`` in the module here that is named like the op's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from accel.builders.convention import DECLARED, optimizers
from accel.targets import split

SPECS: Mapping[str, str] = MappingProxyType(
    {
        **{
            op: f"{__name__}.{stem}:{split(DECLARED[op])[1]}Spec"
            for op, stem in optimizers().items()
        },
        "multi_tensor": f"{__name__}.multi_tensor:MultiTensorSpec",
        "utils": f"{__name__}.utils:UtilsSpec",
    }
)
