"""The specs of the built-in ops, by op.

Each is ``<Class>Spec``, in the module here with the op's name, or for an optimizer, with the name
of the op's own module.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from accel.builders.convention import DECLARED, ON_FILES, optimizers
from accel.targets import split

SPECS: Mapping[str, str] = MappingProxyType(
    {
        op: f"{__name__}.{optimizers().get(op, op)}:{split(target)[1]}Spec"
        for op, target in DECLARED.items()
        if not target.startswith(ON_FILES)  # it computes nothing
    }
)
