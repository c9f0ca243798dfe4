"""The builders of the ``xpu`` backend; host ops are the ``cpu`` backend's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.builders.base import OpBuilder
from accel.builders.convention import optimizer_builders
from accel.builders.kinds import SYCLOpBuilder

globals().update(optimizer_builders(SYCLOpBuilder, __name__))

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[OpBuilder]: ...
