"""Fixtures of the tests that run real compilers in real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_tools import Workshop


@pytest.fixture
def workshop(tmp_path: Path, cache_dir: Path) -> Iterator[Workshop]:
    """A project with one tiny op, an empty cache, and a compiler that counts."""
    made = Workshop(tmp_path / "project", cache_dir)
    made.use_compiler()
    yield made
    made.end()
