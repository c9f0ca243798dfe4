"""``accel bench``: turns, results as files, tables and pictures; never a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_cases import on_cpu, run  # noqa: F401

import accel
from accel.bench import build, busy, lists, optim, picture, processes, results, tables, timing
from accel.bench.shapes import CASES, Case
from accel.bench.timing import Turn, interleaved
from accel.cli.main import main
from accel.errors import BuildFailed, InvalidSetting

ROOT = Path(__file__).parents[2]
H100 = ROOT / "benchmarks/results/nvidia-h100-80gb-hbm3.json"
TINY = Case("tiny", [(64,), (3, 5)])


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    turns = {
        "a": Turn(lambda: calls.append("a"), lambda: calls.append("before a")),
        "b": Turn(lambda: float(len(calls)), own_clock=True),
    }
    parts: list[float] = []
    waits: list[None] = []
    times = interleaved(
        turns, 0, rounds=2, advance=parts.append, synchronize=lambda: waits.append(None)
    )
    assert calls == ["before a", "a"] * 3
    assert times["b"] == [4.0, 6.0] and len(times["a"]) == 2
    assert parts == [0.0, 0.5, 1.0]
    assert len(waits) == 2 * 6


def test_a_time_that_is_over_leaves_one_round() -> None:
    assert len(interleaved({"a": Turn(lambda: None)}, 1e-9)["a"]) == 1
    assert len(interleaved({"a": Turn(lambda: None)}, 60, rounds=5)["a"]) == 5
    assert len(interleaved({"a": Turn(lambda: None)}, 60)["a"]) == timing.MOST


def test_ratios_are_those_of_the_rounds() -> None:
    found = timing.summary({"ours": [1.0, 2.0, 4.0], "b": [3.0, 2.0, 8.0]}, {"b": "ours"})
    assert found["ours"] == {"seconds": 2.0, "least": 1.0}
    assert found["b"] == {"seconds": 3.0, "least": 2.0, "against": "ours", "ratio": 2.0}
    beside = timing.beside({"ours": [1.0, 2.0, 4.0], "b": [3.0, 2.0, 8.0]}, "ours")
    assert beside == {"seconds": 2.0, "b_seconds": 3.0, "times_b": 2.0}


def test_peers_that_are_not_there_are_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Another test may have imported parts of them, which stay importable by themselves.
    for name in {*sys.modules, "deepspeed", "bitsandbytes"}:
        if name.partition(".")[0] in ("deepspeed", "bitsandbytes"):
            monkeypatch.setitem(sys.modules, name, None)
    makers, left_out = optim.contestants("cpu", peers=True)
    assert {"torch fused", "torch foreach", optim.OURS} < {*makers}
    assert left_out == {"DeepSpeed": "not installed", "bitsandbytes": "not installed"}

    monkeypatch.setenv("ACCEL_DEEPSPEED", "1")
    assert "by which its" in optim.contestants("cpu", peers=True)[1]["DeepSpeed"]

    def broken(params: object) -> object:
        raise RuntimeError("no kernel\nhere")

    makers["peer"] = optim.Maker(broken)
    times, absent = optim.race(TINY, makers, accel.accelerator_for("cpu"), 0, rounds=2)
    assert absent == {"peer": "RuntimeError: no kernel here"}
    assert {*times} == {*makers, "memory pass"} - {"peer"}
    assert {len(listed) for listed in times.values()} == {2}
    assert optim.against("bitsandbytes AdamW8bit") == optim.OURS_8BIT


def test_a_peer_that_would_wait_for_an_old_lock_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = tmp_path / "cpu_adam/lock"
    lock.parent.mkdir()
    lock.touch()
    makers, left_out = optim.contestants("cpu", peers=True)
    assert not any("DeepSpeed" in name for name in makers)
    assert f"would wait for {lock}; remove that file" in left_out["DeepSpeed"]


@pytest.mark.parametrize("option", ["--seconds=nan", "--shapes=,"])
def test_options_without_a_meaning_are_refused(option: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "optim", option])
    assert ended.value.code == 2


def test_what_does_not_fit_into_memory_is_left_out() -> None:
    makers, _ = optim.contestants("cpu", peers=False)
    made, left_out = optim.field(TINY, makers, torch.device("cpu"), 0)
    assert [*made] == [optim.OURS]
    assert {*left_out} == {*makers} - {optim.OURS}
    assert "no memory left: 0.0 GB" in left_out[optim.OURS_8BIT]


def test_without_a_compiler_the_limit_is_a_copy(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accel.bench import bounds

    bounds.library.cache_clear()
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv("ACCEL_OPS", "reference")
    makers, _ = optim.contestants("cpu", peers=False)
    cpu = accel.accelerator_for("cpu")
    assert "memory copy" in optim.race(TINY, makers, cpu, 0, rounds=1)[0]
    assert "memory copy" in lists.race(TINY, cpu, 0, rounds=1)
    bounds.library.cache_clear()


@pytest.mark.parametrize("kind", ["optim", "lists"])
def test_it_measures_writes_and_draws(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CASES, "few", TINY)
    file, png = tmp_path / "a.json", tmp_path / "a.png"
    options = ("--shapes", "few", "--seconds", "1", "--no-peers")
    said = run(capfd, kind, *options, "--json", str(file), "--png", str(png))
    found = json.loads(file.read_text())
    assert found["benchmark"] == kind and found["format"] == results.FORMAT
    assert found["implementation"] == "jit" and "jit implementation" in said.splitlines()[0]
    for name in ("date", "device", "cpus", "method", "threads"):
        assert found[name], name
    assert found["versions"]["torch"] == torch.__version__
    case = found["cases"]["few"]
    assert case["limit"] in case["contestants"] and case["rounds"] >= 1
    assert all(one["least"] <= one["seconds"] for one in case["contestants"].values())
    assert 0 <= found["others"] <= found["cpus"] and "load" in found
    assert ("these medians are noise" in said) is bool(busy.note(found))
    assert "tiny" in said and "memory pass" in said and "of the limit" in said
    assert png.read_bytes().startswith(b"\x89PNG")


def test_builds_are_measured_in_processes_of_their_own(cache_dir: Path) -> None:
    found = build.measure("cpu_adagrad", 0.01, peers=False, advance=lambda part: None)
    assert {*found["contestants"]} == {build.COLD, build.WARM, build.BARE}
    assert found["limit"] is None and found["left_out"] == {build.TORCH: "not asked for"}
    assert [*cache_dir.iterdir()] == []
    assert "of the limit" not in tables.columns(found)
    assert {len(row) for row in tables.rows(found)} == {len(tables.columns(found))}
    with pytest.raises(BuildFailed, match="ended with 1: ZeroDivisionError"):
        processes.result(processes.child("1 / 0"))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("optim", "--shapes", "few,huge"), 2, "'huge' is none of big, gpt2"),
        (("lists", "--json", "nowhere/a.json"), 1, "there is no folder nowhere; make it first"),
        (("lists", "--png", "a.gif"), 1, "--png a.gif: its name must end in .png"),
        (("optim", "--json", "/proc/1/a.json"), 1, "a.json"),
        (("optim", "--accelerator", "xpu"), 1, "--accelerator xpu, but torch"),
        (("build", "--op", "nope"), 1, "--op nope: the CPU has no such op with sources. Known:"),
        (("plot", "absent.json"), 1, "absent.json cannot be read: No such file"),
        (("optim", "--seconds", "0"), 2, "0.0 is not in the range"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_said_first(
    arguments: tuple[str, ...], code: int, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said = run(capfd, *arguments, code=code)
    assert says in " ".join(said.split()) and "Traceback" not in said


def sample(scale: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Results with known figures."""
    rows = {
        "memory pass": {"seconds": 0.001, "least": 0.001, "against": "accel", "ratio": 0.5},
        "accel": {"seconds": 0.002 * scale, "least": 0.0015, "against": "accel", "ratio": 1.0},
        "torch": {"seconds": 0.008, "least": 0.007, "against": "accel", "ratio": 4.0},
    }
    case = {
        **{"title": "two tensors", "unit": "s a step", "rounds": 7, "limit": "memory pass"},
        **{"contestants": rows, "left_out": {}},
    }
    facts = {"date": "2026-01-02T03:04:05", "device": "a chip", "versions": {"torch": "2.9"}}
    base = {"format": results.FORMAT, "benchmark": "optim", **facts}
    return {**base, "cases": {"two": case}, **changes}


def test_two_results_are_compared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    results.write(sample(), before)
    results.write(sample(1.5, device="another", versions={"torch": "2.10"}), after)
    said = " ".join(run(capfd, "compare", str(before), str(after)).split())
    assert "two tensors accel 2 ms 3 ms 1.50 0.50 -> 0.33" in said
    assert "not alike: device: a chip -> another not alike: torch: 2.9 -> 2.10" in said
    found = json.loads(run(capfd, "compare", str(before), str(after), "--json"))
    assert [one["contestant"] for one in found["contestants"]] == ["memory pass", "accel", "torch"]
    results.write(sample(cpus=2, others=1.5, load=3.25), after)
    said = " ".join(run(capfd, "compare", str(before), str(after)).split())
    assert f"busy: {after}: other processes used 1.5 of 2 CPUs meanwhile, load 3.2 before" in said
    assert f"busy: {before}" not in said
    results.write(sample(benchmark="lists"), after)
    said = run(capfd, "compare", str(before), str(after), code=1)
    assert "results of optim, the second of lists: name two files of the same" in said


def test_results_of_a_busy_machine_say_so() -> None:
    quiet = sample(cpus=8, others=0.8, load=5.0)
    assert "noise" not in tables.markdown(quiet) and not busy.note(sample())
    text = tables.markdown(sample(cpus=8, others=0.9, load=None))
    assert text.endswith("\n\nBusy: " + busy.note(sample(cpus=8, others=0.9)) + "\n")
    assert "used 0.9 of 8 CPUs meanwhile: these medians are noise" in text


def test_builds_are_compared_without_a_limit() -> None:
    old = sample(benchmark="build")
    old["cases"]["two"]["limit"] = None
    found = [*results.compare(old, old)]
    assert {one.limit_before for one in found} == {None}
    assert {row[-1] for row in tables.differences(found)} == {"- -> -"}
    assert "of the limit" not in tables.markdown(old) and "| 2 ms | 1.5 ms |  |" in (
        tables.markdown(old)
    )


def test_the_time_of_other_processes_is_counted() -> None:
    spin = "import time\nwhile time.process_time() < 0.5: pass\nprint(1, flush=True)\ninput()"
    began = time.perf_counter()
    watch = busy.Watch()
    # Until it has ended and been waited for, a child is no part of this process.
    other = subprocess.Popen(
        [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdout.readline()
    used = watch.facts()["others"] * (time.perf_counter() - began)
    other.communicate(b"\n")
    assert used > 0.3


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 99}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InvalidSetting, match=r"a\.json holds no"):
        results.read(path)


MARKDOWN = """a chip, torch 2.9, 2026-01-02

**two tensors** (s a step, 7 rounds)

| contestant | median | least | of the limit | time, relative to |
| --- | --- | --- | --- | --- |
| memory pass | 1 ms | 1 ms | 1.00 | 0.50 × accel |
| accel | 2 ms | 1.5 ms | 0.50 |  |
| torch | 8 ms | 7 ms | 0.12 | 4.00 × accel |
"""


def test_results_make_the_same_text_and_picture_each_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results.write(sample(), tmp_path / "a.json")
    for png in ("1.png", "2.png"):
        said = run(capfd, "plot", str(tmp_path / "a.json"), "--png", str(tmp_path / png))
        assert said == MARKDOWN
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_a_gpus_committed_results_make_readmes_table(tmp_path: Path) -> None:
    found = results.read(H100)
    text = tables.markdown(found)
    assert text.startswith("NVIDIA H100 80GB HBM3, driver 580.159.04, torch 2.11.0")
    assert "| Adam, float32 | 0.94 | torch fused 1.19, torch foreach 3.13 |" in text
    assert "float32 Adam 1.46, bitsandbytes 4.19 |" in text
    picture.draw(found, tmp_path / "a.png")
    picture.draw(found, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    del found["measures"]["copy"], found["measures"]["gpt2"]
    assert "| Adam, float32 |  |" in tables.markdown(found)


def test_a_picture_without_matplotlib_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = run(capfd, "plot", str(H100), "--png", str(tmp_path / "a.png"), code=1)
    assert "pip install 'accel-torch[bench]'" in said
