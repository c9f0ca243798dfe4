"""The training example on damaged files, full disks and after kills: one sentence, exit code 2."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
NOBODY = 65534
TINY = [
    *("--width", "32", "--heads", "2", "--depth", "1", "--context", "32", "--batch", "4"),
    *("--warmup", "2", "--eval-every", "2", "--optimizer", "torch"),
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs another user id")


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("ACCELERATOR", "cpu")
    return importlib.import_module("train")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint of four steps of eight."""
    out = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        patch.setenv("ACCELERATOR", "cpu")
        made = importlib.import_module("train").main(
            [*TINY, "--steps", "8", "--stop-at", "4", "--out", str(out)]
        )
    assert made == 0
    return (out / "checkpoint.pt").read_bytes()


@pytest.fixture
def sound(whole: bytes, tmp_path: Path) -> bytes:
    """The same checkpoint, in the test's folder."""
    (tmp_path / "checkpoint.pt").write_bytes(whole)
    return whole


def refusal(train: ModuleType, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """Resume in `out`, which must end in 2 with one line, and return the line."""
    capsys.readouterr()
    arguments = more or ("--resume",)
    assert train.main([*arguments, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("train.py: ") and said.count("\n") == 1, said
    return said


def test_no_damaged_block_is_read(
    train: ModuleType, sound: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = importlib.import_module("checkpoint")
    path = tmp_path / "checkpoint.pt"
    draw = random.Random(1)
    for _ in range(200):
        size = draw.choice((1, 16, 512, 4096))
        at = draw.randrange(len(sound) - size + 1)
        new = draw.choice((bytes(size), draw.randbytes(size)))
        if sound[at : at + size] == new:
            continue
        path.write_bytes(sound[:at] + new + sound[at + size :])
        with pytest.raises(checkpoint.RunError, match="damaged"):
            checkpoint.load(path)
    assert f"{path} is damaged" in refusal(train, tmp_path, capsys)
    path.write_bytes(sound)
    assert train.main(["--resume", "--out", str(tmp_path)]) == 0


def test_no_cut_or_longer_file_is_read(train: ModuleType, sound: bytes, tmp_path: Path) -> None:
    checkpoint = importlib.import_module("checkpoint")
    path = tmp_path / "checkpoint.pt"
    cuts = [0, 1, 100, len(sound) // 2, *(len(sound) - left for left in range(1, 130, 3))]
    for content in (*(sound[:cut] for cut in cuts), sound + b"\n", sound + sound, b"x" + sound):
        path.write_bytes(content)
        with pytest.raises(checkpoint.RunError, match=r"cut off|damaged"):
            checkpoint.load(path)


def test_what_is_no_checkpoint_is_told_apart(
    train: ModuleType, sound: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(sound.replace(b"format 1,", b"format 2,"))
    assert "has format 2, and this program reads 1" in refusal(train, tmp_path, capsys)
    content = torch.load(path, weights_only=True)
    torch.save(content, path)
    assert "of an earlier version, which kept none" in refusal(train, tmp_path, capsys)
    importlib.import_module("checkpoint").save(path, {"weights": torch.zeros(3)})
    assert "not a checkpoint of this program" in refusal(train, tmp_path, capsys)
    path.unlink()
    assert "There is no checkpoint at" in refusal(train, tmp_path, capsys)
    os.mkfifo(path)
    assert "is not a file" in refusal(train, tmp_path, capsys)
    path.unlink()
    path.mkdir()
    assert "is not a file" in refusal(train, tmp_path, capsys)


def test_states_that_do_not_fit_are_told(
    train: ModuleType, sound: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = importlib.import_module("checkpoint")
    path = tmp_path / "checkpoint.pt"
    content = checkpoint.load(path)
    del content["model"]["head.weight"]
    checkpoint.save(path, content)
    assert "do not fit" in refusal(train, tmp_path, capsys)
    del content["text"]
    checkpoint.save(path, content)
    assert "lacks 'text'" in refusal(train, tmp_path, capsys)


def test_codes_of_8_bits_are_not_taken_for_numbers(
    train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*TINY, "--steps", "8", "--stop-at", "2", "--optimizer"]
    assert train.main([*run, "torch", "--out", str(tmp_path)]) == 0
    resume = ["--resume", "--optimizer", "8bit", "--stop-at", "4", "--out", str(tmp_path)]
    assert train.main(resume) == 0
    for other in ("torch", "fused"):
        said = refusal(train, tmp_path, capsys, "--resume", "--optimizer", other)
        assert f"--optimizer {other} was asked for" in said and "8-bit codes" in said
    assert train.main(["--resume", "--out", str(tmp_path)]) == 0


@contextmanager
def another_user() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@needs_root
def test_without_permission_it_is_said(
    train: ModuleType, sound: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = importlib.import_module("checkpoint")
    path = tmp_path / "checkpoint.pt"
    path.chmod(0o600)
    with another_user():
        assert f"{path} cannot be read: Permission denied" in refusal(train, tmp_path, capsys)
        with pytest.raises(checkpoint.RunError, match=r"cannot be written: Permission denied"):
            checkpoint.save(path, {"settings": {}})
    assert path.read_bytes() == sound


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, free: int) -> None:
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    with filler.open("wb") as file:
        facts = os.statvfs(disk)
        file.write(bytes(max(0, facts.f_bavail * facts.f_frsize - free)))


def test_a_full_disk_ends_in_a_sentence_and_keeps_the_old(
    train: ModuleType, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = small_disk / "runs"
    run = [*TINY, "--steps", "8"]
    fill(small_disk, 0)
    assert "No space left on device" in refusal(train, out, capsys, *run)
    fill(small_disk, 1 << 20)
    assert train.main([*run, "--stop-at", "2", "--out", str(out)]) == 0
    before = (out / "checkpoint.pt").read_bytes()
    for free in (0, len(before) // 2, len(before) - 1):
        fill(small_disk, free)
        said = refusal(train, out, capsys, "--resume")
        assert f"{out}/" in said and "No space left on device" in said and "--out" in said
        assert sorted(path.name for path in out.iterdir()) == ["checkpoint.pt", "loss.png"]
        assert (out / "checkpoint.pt").read_bytes() == before
    fill(small_disk, 1 << 20)
    assert train.main(["--resume", "--out", str(out)]) == 0


def test_a_folder_that_cannot_be_made_is_named(
    train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "runs"):
        said = refusal(train, out, capsys, *TINY, "--steps", "2")
        assert str(out) in said and "--out" in said


SAVES = """
import sys
from pathlib import Path
import torch, checkpoint
path = Path(sys.argv[1])
while True:
    checkpoint.save(path, {"settings": {}, "model": torch.zeros(8_000_000)})
"""


def killed_while_saving(out: Path) -> None:
    """Kill a process that saves in `out` at a moment when its new file is not whole."""
    for _ in range(20):
        saving = subprocess.Popen(
            [sys.executable, "-c", SAVES, str(out / "checkpoint.pt")],
            env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        )
        deadline = time.monotonic() + 60
        while not [*out.glob(".checkpoint.pt.*")] and time.monotonic() < deadline:
            time.sleep(0.001)
        saving.send_signal(signal.SIGKILL)
        assert saving.wait() == -signal.SIGKILL
        if [*out.glob(".checkpoint.pt.*")]:
            return
    pytest.fail("no kill fell into a save")


def test_what_a_kill_leaves_is_removed_by_the_next_run(train: ModuleType, tmp_path: Path) -> None:
    killed_while_saving(tmp_path)
    (tmp_path / ".loss.png.4711").write_bytes(b"half a picture")
    (tmp_path / ".checkpoint.pt").write_bytes(b"somebody else's")
    assert train.main([*TINY, "--steps", "2", "--out", str(tmp_path)]) == 0
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".checkpoint.pt", "checkpoint.pt", "loss.png"]


HOLDS = """
import sys
from pathlib import Path
from storage import run_folder
with run_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_keeps_others_out_of_its_folder(
    train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    (tmp_path / ".checkpoint.pt.1").touch()
    arguments = [*TINY, "--steps", "2"]
    assert "Another run uses the folder" in refusal(train, tmp_path, capsys, *arguments)
    assert (tmp_path / ".checkpoint.pt.1").exists(), "the other run's file was removed"
    first.kill()
    first.communicate()
    assert train.main([*arguments, "--out", str(tmp_path)]) == 0
