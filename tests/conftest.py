"""What every test starts from: a clean environment and a private cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_HONOURED = (
    "ACCELERATOR",
    "CXX",
    "CUDA_HOME",
    "CUDA_PATH",
    "NVCC",
    "TORCH_CUDA_ARCH_LIST",
    "MAX_JOBS",
    "CFLAGS",
    "CXXFLAGS",
    "LOCAL_WORLD_SIZE",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove every variable that accel honours, except the session's cache."""
    for name in [*os.environ]:
        if name in _HONOURED or (name.startswith("ACCEL_") and name != "ACCEL_CACHE_DIR"):
            monkeypatch.delenv(name)
    yield


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One private cache for the whole run, so that each op is compiled once per run."""
    base = tmp_path_factory.getbasetemp()
    # The workers of pytest-xdist have folders of their own below the run's.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCEL_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh private cache for one test."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def forget_accelerator() -> Iterator[None]:
    """Let no test see the accelerator that another one selected."""
    yield
    import accel

    accel.set_accelerator(None)
