"""Tests that run in a process of its own, which has the simulated device."""

from __future__ import annotations

import os

collect_ignore_glob = [] if "SIMULATOR_LIBRARY" in os.environ else ["test_*.py"]
