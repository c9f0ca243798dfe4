"""The training example: it learns, resumes exactly, spreads over processes, and explains itself."""

from __future__ import annotations

import importlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import accel

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = [
    *("--width", "32", "--heads", "2", "--depth", "1", "--context", "32"),
    *("--batch", "4", "--warmup", "2", "--eval-every", "4"),
]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors this small are slower on several threads, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("OMP_NUM_THREADS", "ACCEL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("ACCELERATOR", "cpu")
    return importlib.import_module("train")


def run(train: ModuleType, out: Path, *arguments: str) -> dict[str, Any]:
    assert train.main([*arguments, "--out", str(out)]) == 0
    return saved(out)


def saved(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)
    return content


def environment(**extra: str) -> dict[str, str]:
    return os.environ | {"ACCELERATOR": "cpu"} | extra


def torchrun(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, str(EXAMPLES / "train.py"), *TINY, "--out", str(out), *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def first_loss_of_two(settings: dict[str, Any]) -> float:
    """Compute in one process what two processes should report of their first step."""
    fresh = importlib.import_module("run").make_run(
        accel.get_accelerator(),
        importlib.import_module("processes").World(),
        importlib.import_module("settings").Settings(**settings),
        shard=False,
    )
    draw = importlib.import_module("data").training_batch
    sizes = settings["batch"], settings["context"], settings["seed"]
    losses = [
        fresh.loss(fresh.model, draw(fresh.text.train, *sizes[:2], seed=sizes[2], draw=number))
        for number in (0, 1)
    ]
    return torch.stack(losses).mean().item() / math.log(2)


def assert_equal_runs(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["train"] == other["train"]
    assert dict(one["held_out"]).items() <= dict(other["held_out"]).items()
    for name, parameter in one["model"].items():
        assert torch.equal(parameter, other["model"][name]), name


def test_learns_more_than_byte_frequencies(
    train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = "--steps 150 --width 64 --heads 4 --depth 1 --context 32 --warmup 10 --lr 1e-2"
    content = run(train, tmp_path, *settings.split())
    printed = capsys.readouterr().out
    last = printed.splitlines()[-3]
    held_out, baseline = content["held_out"][-1][1], float(last.rpartition(" ")[2])
    assert last.startswith(f"held out     {held_out:.3f} bits/byte")
    assert held_out < baseline - 0.5
    assert "accelerator  cpu" in printed
    assert "ACCELERATOR=cpu" in printed
    assert "fused_adam: jit" in printed or "fused_adam: reference" in printed


def test_draws_a_curve(train: ModuleType, tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    run(train, tmp_path, *TINY, "--steps", "8")
    pixels = image.imread(tmp_path / "loss.png")
    assert pixels.shape[:2] == (540, 960)
    assert len({tuple(pixel) for row in pixels[::4] for pixel in row}) > 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "loss.png"]


def test_trains_without_matplotlib(
    train: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run(train, tmp_path, *TINY, "--steps", "4")
    assert "none: matplotlib is not installed" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_fused_optimizer_equals_torchs(train: ModuleType, tmp_path: Path) -> None:
    arguments = [*TINY, "--steps", "60", "--eval-every", "20"]
    fused = run(train, tmp_path / "fused", *arguments)
    plain = run(train, tmp_path / "torch", *arguments, "--optimizer", "torch")
    torch.testing.assert_close(
        torch.tensor(fused["train"]), torch.tensor(plain["train"]), rtol=1e-4, atol=1e-4
    )
    assert fused["train"][-1] < fused["train"][0] - 1


def test_fused_optimizer_equals_torchs_over_a_whole_run(train: ModuleType, tmp_path: Path) -> None:
    # Training magnifies rounding: in float32 torch's own implementations part by 1e-4 in 300 steps.
    # In float64 what is left after a run is a difference of arithmetic.
    arguments = [*TINY, "--steps", "300", "--eval-every", "300"]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        fused = run(train, tmp_path / "fused", *arguments)
        plain = run(train, tmp_path / "torch", *arguments, "--optimizer", "torch")
    finally:
        torch.set_default_dtype(before)
    torch.testing.assert_close(
        torch.tensor(fused["train"], dtype=torch.float64),
        torch.tensor(plain["train"], dtype=torch.float64),
        rtol=0,
        atol=1e-8,
    )


@pytest.mark.parametrize("optimizer", ["fused", "8bit"])
def test_resumes_to_the_same_bits(train: ModuleType, tmp_path: Path, optimizer: str) -> None:
    arguments = [*TINY, "--steps", "12", "--dropout", "0.2", "--optimizer", optimizer]
    whole = run(train, tmp_path / "whole", *arguments)
    run(train, tmp_path / "parts", *arguments, "--stop-at", "6")
    torch.rand(7)
    parts = run(train, tmp_path / "parts", "--resume")
    assert_equal_runs(whole, parts)


def test_killed_run_resumes_to_the_same_bits(train: ModuleType, tmp_path: Path) -> None:
    arguments = [*TINY, "--steps", "400", "--dropout", "0.2"]
    killed = subprocess.Popen(
        [sys.executable, EXAMPLES / "train.py", *arguments, "--out", tmp_path / "killed"],
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed/checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    step = saved(tmp_path / "killed")["step"]
    assert 0 < step < 400
    whole = run(train, tmp_path / "whole", *arguments, "--stop-at", str(step + 20))
    rest = run(train, tmp_path / "killed", "--resume", "--stop-at", str(step + 20))
    assert_equal_runs(whole, rest)


def test_optimizer_can_be_exchanged_in_mid_run(train: ModuleType, tmp_path: Path) -> None:
    arguments = [*TINY, "--steps", "30"]
    whole = run(train, tmp_path / "whole", *arguments)
    run(train, tmp_path / "parts", *arguments, "--stop-at", "15", "--optimizer", "torch")
    parts = run(train, tmp_path / "parts", "--resume", "--optimizer", "fused")
    torch.testing.assert_close(
        torch.tensor(whole["train"]), torch.tensor(parts["train"]), rtol=1e-4, atol=1e-4
    )


def test_two_processes_train_as_one(train: ModuleType, tmp_path: Path) -> None:
    copied = torchrun(tmp_path / "ddp", "--steps", "8")
    assert copied.returncode == 0, copied.stderr
    assert copied.stdout.count("accelerator") == 1
    assert "2, DDP over gloo" in copied.stdout
    sharded = torchrun(tmp_path / "fsdp", "--steps", "8", "--stop-at", "4", "--fsdp")
    assert sharded.returncode == 0, sharded.stderr
    assert "2, FSDP2 over gloo" in sharded.stdout
    resumed = torchrun(tmp_path / "fsdp", "--resume", "--fsdp")
    assert resumed.returncode == 0, resumed.stderr
    one, other = saved(tmp_path / "ddp"), saved(tmp_path / "fsdp")
    assert one["processes"] == 2
    assert len(one["random"]) == 2
    assert one["train"][0] == pytest.approx(first_loss_of_two(one["settings"]), abs=1e-5)
    torch.testing.assert_close(torch.tensor(one["train"]), torch.tensor(other["train"]))


@pytest.mark.parametrize("name", ["xpu", "nonsense", " "])
def test_unusable_accelerator_ends_in_one_paragraph(name: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, EXAMPLES / "train.py", "--out", tmp_path / "out"],
        env=environment(ACCELERATOR=name),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "ACCELERATOR" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "\n\n" not in ended.stderr.strip()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--resume", "--batch", "9"], "--batch 9 was asked for, but the checkpoint"),
        (["--resume"], "is at step 4 of 4: ask for more --steps"),
        (["--width", "30", "--heads", "4"], "must be a multiple of 8"),
        (["--context", "100000000"], "is longer than the text held out"),
    ],
)
def test_refuses_what_does_not_fit(
    train: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    part: str,
) -> None:
    if "--resume" in arguments:
        run(train, tmp_path, *TINY, "--steps", "4")
    assert train.main([*arguments, "--out", str(tmp_path)]) == 2
    assert part in capsys.readouterr().err


def test_refuses_a_checkpoint_of_another_text_or_number_of_processes(
    train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = run(train, tmp_path, *TINY, "--steps", "8", "--stop-at", "4")
    for change in ({"text": "0" * 64}, {"processes": 2}, {"sharded": True}):
        importlib.import_module("checkpoint").save(tmp_path / "checkpoint.pt", content | change)
        assert train.main(["--resume", "--out", str(tmp_path)]) == 2
        assert "Make them equal, or start without --resume." in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_refuses_what_is_no_checkpoint(
    train: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "checkpoint.pt").write_bytes(content)
    assert train.main(["--resume", "--out", str(tmp_path)]) == 2
    assert str(tmp_path / "checkpoint.pt") in capsys.readouterr().err


def test_failed_save_keeps_the_old_checkpoint(train: ModuleType, tmp_path: Path) -> None:
    checkpoint = importlib.import_module("checkpoint")
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"settings": {"steps": 1}})
    with pytest.raises(Exception, match=r"Can't (pickle|get) local object"):
        checkpoint.save(path, {"settings": lambda: None})
    assert checkpoint.load(path) == {"settings": {"steps": 1}}
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_terminal_gets_a_bar(
    train: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    run(train, tmp_path, *TINY, "--steps", "8")
    shown = capsys.readouterr().out
    assert "━" in shown
    assert "tokens/s" in shown
    assert "step 8/8" not in shown


def test_text_is_divided_by_file_and_drawn_by_number(train: ModuleType, tmp_path: Path) -> None:
    data = importlib.import_module("data")
    for index in range(20):
        (tmp_path / f"{index:02}.py").write_bytes(bytes([index]) * 100)
    (tmp_path / "test").mkdir()
    (tmp_path / "test/left_out.py").write_bytes(bytes([99]) * 100)
    text = data.load_text(tmp_path)
    assert sorted(set(text.held_out.tolist())) == [0, 10]
    assert sorted(set(text.train.tolist())) == [*range(1, 10), *range(11, 20)]
    assert text.digest == data.load_text(tmp_path).digest

    def drawn(seed: int, draw: int) -> list[list[int]]:
        batch: list[list[int]] = data.training_batch(text.train, 4, 8, seed=seed, draw=draw)
        return torch.as_tensor(batch).tolist()

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 2)
    assert drawn(0, 1) != drawn(1, 1)
    (tmp_path / "03.py").write_bytes(b"changed")
    assert text.digest != data.load_text(tmp_path).digest


def test_byte_entropy_of_known_distributions(train: ModuleType) -> None:
    data = importlib.import_module("data")
    uniform = torch.arange(-1, 256).clamp(min=0)[None]
    assert data.byte_entropy(uniform) == pytest.approx(8)
    assert data.byte_entropy(torch.zeros(2, 9, dtype=torch.int64)) == 0
