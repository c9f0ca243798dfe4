"""The builders of the ``hpu`` backend; host ops are the ``cpu`` backend's own."""

from __future__ import annotations

from accel.builders.base import ReferenceOpBuilder
from accel.builders.choosing import using
from accel.builders.cpu import CPUAdagradBuilder as CPUAdagradBuilder
from accel.builders.cpu import CPUAdamBuilder as CPUAdamBuilder
from accel.builders.cpu import CPULionBuilder as CPULionBuilder
from accel.errors import OpUnavailable
from accel.ops.base import Implementation
from accel.ops.optimizers.gaudi import load_gaudi, probe_gaudi
from accel.probe import Probe


class GaudiOpBuilder(ReferenceOpBuilder):
    """A kind: the vendor's fused optimizer if its software has one that fits."""

    backend = "hpu"

    def stand_ins(self) -> tuple[tuple[str, Probe], ...]:
        """Return the vendor's rung before those that every backend has."""
        return (("vendor", probe_gaudi(self.entry_point)), *super().stand_ins())

    def stand_in(self) -> Implementation | None:
        """Return the vendor's optimizer, imported; one that does not import is warned about."""
        if not probe_gaudi(self.entry_point):
            return super().stand_in()
        try:
            return load_gaudi(self.entry_point)
        except OpUnavailable as error:
            instead = super().stand_in()
            self._warn(using(instead, error))
            return instead


class FusedAdamBuilder(GaudiOpBuilder):
    """Adam and AdamW over lists of tensors, in one call."""

    NAME = "fused_adam"
    BUILD_VAR = "ACCEL_BUILD_FUSED_ADAM"
    op = "accel.ops.optimizers.adam:FusedAdam"
    entry_point = "accel_adam_step"


class FusedLambBuilder(GaudiOpBuilder):
    """LAMB for one tensor at a time."""

    NAME = "fused_lamb"
    BUILD_VAR = "ACCEL_BUILD_FUSED_LAMB"
    op = "accel.ops.optimizers.lamb:FusedLamb"
    entry_point = "accel_lamb_step"
