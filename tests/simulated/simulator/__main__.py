"""``python -m simulator``: build the simulated device's library and say where it is."""

from __future__ import annotations

import sys

from simulator.library import build

sys.stdout.write(f"{build()}\n")
