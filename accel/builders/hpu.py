"""The builders of the ``hpu`` backend; host ops are the ``cpu`` backend's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.builders.base import OpBuilder
from accel.builders.choosing import using, warn_once
from accel.builders.convention import optimizer_builders
from accel.builders.kinds import ReferenceOpBuilder
from accel.errors import OpUnavailable
from accel.ops.base import Implementation
from accel.ops.optimizers.gaudi import OPTIMIZERS as GAUDI
from accel.ops.optimizers.gaudi import load_gaudi, probe_gaudi
from accel.probe import Probe


class GaudiOpBuilder(ReferenceOpBuilder):
    """A kind of builder: the vendor's fused optimizer if its software has one that fits."""

    backend = "hpu"

    def stand_ins(self) -> tuple[tuple[str, Probe], ...]:
        """Return the vendor's rung, followed by the rungs of every backend."""
        return (("vendor", probe_gaudi(self.entry_point)), *super().stand_ins())

    def stand_in(self) -> Implementation | None:
        """Import and return the vendor's optimizer; warn if it cannot be imported."""
        if not probe_gaudi(self.entry_point):
            return super().stand_in()
        try:
            return load_gaudi(self.entry_point)
        except OpUnavailable as error:
            instead = super().stand_in()
            warn_once(self, using(instead, error))
            return instead


# The vendor's optimizers; if one cannot be used, the rung says why.
globals().update(optimizer_builders(GaudiOpBuilder, __name__, others=GAUDI))

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[OpBuilder]: ...
