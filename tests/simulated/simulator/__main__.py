"""``python -m simulator``: build the simulated device's library and say where it is."""

from __future__ import annotations
