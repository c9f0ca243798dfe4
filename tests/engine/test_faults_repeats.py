"""A load in each step costs microseconds, and still sees everything that may have changed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import accel
from accel.builders import lookup
from accel.builders.base import OpBuilder
from accel.builders.kinds import CPUOpBuilder
from accel.jit import source_changes
from accel.ops.base import Op
from accel.targets import forget_installed


class Value(Op):
    """Tells the number that its library was compiled with."""

    name = "value"
    functions = ("value",)

    def __init__(self, library: Any = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._value: Callable[[], int] = library.handle.value if library else lambda: -1

    def value(self) -> int:
        """Return the number, -1 for the reference."""
        return self._value()


class ValueBuilder(CPUOpBuilder):
    """One source, and a header in the second of two folders."""

    NAME = "value"
    op = f"{__name__}:Value"
    openmp = False
    folder = Path()
    extra: tuple[str, ...] = ()

    def sources(self) -> list[str]:
        """Return the source."""
        return [str(self.folder / "value.cpp")]

    def include_paths(self) -> list[str]:
        """Return the folders of headers, the first of which is empty."""
        return [str(self.folder / "first"), str(self.folder / "second")]

    def cxx_args(self) -> list[str]:
        """Return what a test wants."""
        return [*self.extra]


def written(path: Path, number: int) -> None:
    path.write_text(f"#define NUMBER {number}\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the builder's source, with an answer that is settled."""
    monkeypatch.setattr(OpBuilder, "_loaded", {})
    monkeypatch.setattr(ValueBuilder, "folder", tmp_path)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    written(tmp_path / "second" / "number.h", 1)
    (tmp_path / "value.cpp").write_text(
        "#include <number.h>\n"
        'extern "C" __attribute__((visibility("default"))) int value() { return NUMBER; }\n'
    )
    settle()
    yield tmp_path


def settle() -> None:
    """Load until a load is remembered: what has changed just now is looked at again."""
    deadline = time.monotonic() + 20
    while True:
        op = ValueBuilder().load()
        key = ("answer", ValueBuilder, "value")
        if key in OpBuilder._loaded and OpBuilder._loaded[key].holds(ValueBuilder()):
            assert op.implementation == "jit"
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_documented_pattern_is_a_few_calls() -> None:
    """Calls are counted: a busy machine changes times, not these."""
    tensor = torch.zeros(3)

    def pattern() -> Any:
        return accel.accelerator_for(tensor).get_op_builder("FusedAdamBuilder")().load()

    first = pattern()
    calls: list[str] = []
    sys.setprofile(lambda frame, event, _: calls.append(event + frame.f_code.co_name))
    try:
        again = pattern()
    finally:
        sys.setprofile(None)
    assert again is first
    assert len([call for call in calls if call.startswith("call")]) < 40, calls


def edit(folder: Path) -> int:
    written(folder / "second" / "number.h", 2)
    return 2


def shadow(folder: Path) -> int:
    written(folder / "first" / "number.h", 3)
    return 3


def exchange(folder: Path) -> int:
    written(folder / "other.h", 4)
    (folder / "other.h").replace(folder / "second" / "number.h")
    return 4


def exchange_folder(folder: Path) -> int:
    (folder / "third").mkdir()
    written(folder / "third" / "number.h", 5)
    (folder / "second").rename(folder / "gone")
    (folder / "third").rename(folder / "second")
    return 5


def same_length_and_time(folder: Path) -> int:
    path = folder / "second" / "number.h"
    facts = path.stat()
    written(path, 6)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return 6


@pytest.mark.parametrize("change", [edit, shadow, exchange, exchange_folder, same_length_and_time])
def test_a_changed_source_counts_at_once(folder: Path, change: Callable[[Path], int]) -> None:
    assert ValueBuilder().load().value() == 1
    number = change(folder)
    assert ValueBuilder().load().value() == number
    written(folder / "second" / "number.h", 9)
    (folder / "first" / "number.h").unlink(missing_ok=True)
    assert ValueBuilder().load().value() == 9, "a change soon after a change"


def test_a_child_sees_changes_too(folder: Path) -> None:
    child = os.fork()
    if not child:
        edit(folder)
        os._exit(ValueBuilder().load().value())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert ValueBuilder().load().value() == 2


@pytest.mark.parametrize("how", ["none left", "closed by another"])
def test_changes_are_seen_without_notices(
    folder: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "none left":
        monkeypatch.setattr(source_changes, "_notifier", None)
        monkeypatch.setattr(source_changes._Notifier, "add", lambda *_: False)
        settle()
    else:
        # As who becomes a daemon does; the number is another file's soon.
        notifier = source_changes._notifier
        assert notifier is not None
        os.close(notifier._fd)
        assert os.open(folder / "value.cpp", os.O_RDONLY) == notifier._fd
        time.sleep(0.15)
    assert ValueBuilder().load().value() == 1
    edit(folder)
    assert ValueBuilder().load().value() == 2


def test_settings_and_declarations_count_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEL_OPS", "reference")
    assert ValueBuilder().load().implementation == "reference"
    monkeypatch.delenv("ACCEL_OPS")
    native = ValueBuilder().load()
    monkeypatch.setenv("CXXFLAGS", "-DOTHER")
    assert ValueBuilder().load().digest != native.digest
    monkeypatch.delenv("CXXFLAGS")
    settle()
    monkeypatch.setattr(ValueBuilder, "extra", ("-DNUMBER_OF_ANOTHER",))
    assert ValueBuilder().load().digest != native.digest
    monkeypatch.setenv("CXX", "/nonexistent/c++")
    with pytest.warns(RuntimeWarning, match="/nonexistent/c"):
        monkeypatch.setenv("ACCEL_CACHE_DIR", str(folder / "cache"))
        assert ValueBuilder().load().implementation == "reference"


def test_a_compiler_that_comes_later_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr("accel.builders.choosing._warned", set())

    real = {name: shutil.which(name) for name in ("g++", "ninja", "as", "ld")}
    later = folder / "bin"
    later.mkdir()
    monkeypatch.setenv("PATH", str(later))
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(folder / "cache"))
    time.sleep(0.1)
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler"):
        assert ValueBuilder().load().implementation == "reference"
    assert ValueBuilder().load().implementation == "reference"
    for name, path in real.items():
        (later / name).symlink_to(str(path))
    assert ValueBuilder().load().implementation == "jit"


def test_registrations_count_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_registered", {})
    acc = accel.accelerator_for("cpu")
    accel.register_op("one_more", "accel.ops.optimizers.adam:FusedAdam")
    assert acc.get_op_builder("OneMoreBuilder").op == "accel.ops.optimizers.adam:FusedAdam"
    accel.register_op("one_more", "accel.ops.optimizers.lion:FusedLion", replace=True)
    assert acc.get_op_builder("OneMoreBuilder").op == "accel.ops.optimizers.lion:FusedLion"


def test_entry_points_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from importlib import metadata

    asked = []
    real = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda **more: asked.append(1) or real(**more))
    forget_installed()
    accel.candidates()
    first = len(asked)
    assert first
    for _ in range(5):
        accel.accelerator_for("cpu").get_op_builder("FusedLionBuilder")
        accel.candidates()
    assert len(asked) == first
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    accel.candidates()
    assert len(asked) > first, "another search path may have other packages"
