"""Fixtures of tests that start processes with a simulated device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from device_processes import Process, start


@pytest.fixture(scope="session")
def simulator(session_cache: Path) -> str:
    """The path of the simulated device's library, built once."""
    return start("-m", "simulator").strip()


@pytest.fixture
def process(simulator: str, session_cache: Path) -> Process:
    """`start` for processes that use the device."""

    def run(*command: str, **options: Any) -> str:
        given = {"SIMULATOR_LIBRARY": simulator, "ACCEL_CACHE_DIR": str(session_cache)}
        return start(*command, **(given | options))

    return run
