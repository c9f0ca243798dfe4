"""Optimizers with states in files give the bits of those with states in memory."""

from __future__ import annotations

import gc
import importlib.util
import io as memory_files
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from io_cases import start_child
from swap_cases import FLOATS, LIMIT, left, parameters, run, same, same_states
from torch import nn

from accel.errors import SwapFailed
from accel.optim import CPUAdagrad, CPUAdam, CPULion, read_swap
from accel.optim.swap import group

EXAMPLES = Path(__file__).parents[3] / "examples"
CASES: tuple[tuple[Any, dict[str, Any]], ...] = (
    (CPUAdam, {"max_grad_norm": 1.0, "amsgrad": True}),
    (CPUAdam, {"rounding": "stochastic", "seed": 3, "fp32_optimizer_states": False}),
    (CPUAdam, {"master_dtype": torch.float32}),
    (CPULion, {"rounding": "stochastic", "weight_decay": 0.1}),
    (CPUAdagrad, {"initial_accumulator_value": 0.5, "lr_decay": 0.1}),
)


def pair(cls: Any, folder: Path, dtypes: Any = (torch.float32,), **options: Any) -> Any:
    """Return parameters and optimizers: with states in memory, and with states in files."""
    plain, swapped = parameters(dtypes), parameters(dtypes)
    kept = cls(plain, lr=1e-2, **options)
    filed = cls(swapped, lr=1e-2, swap_dir=folder, swap_memory=LIMIT, **options)
    return plain, kept, swapped, filed


def check_bounds(optimizer: Any) -> int:
    """Check that buffers stay within the limit, and that all states are in files; their bytes."""
    store = optimizer.store
    buffers = {one.untyped_storage().data_ptr(): one for one in store.stream._buffers}
    held = sum(one.untyped_storage().nbytes() for one in buffers.values())
    assert 0 < held == store.stream.allocated <= LIMIT
    states = [
        value
        for state in optimizer.state.values()
        for key, value in state.items()
        if key != "step" and value.numel()
    ]
    assert all(any(one.holds(state) for one in store.extents) for state in states)
    return sum(state.nbytes for state in states)


@pytest.mark.parametrize(("cls", "options"), CASES, ids=str)
def test_bits(cls: Any, options: dict[str, Any], tmp_path: Path) -> None:
    plain, kept, swapped, filed = pair(cls, tmp_path, FLOATS, **options)
    for params, optimizer in ((plain, kept), (swapped, filed)):
        run(params, optimizer, range(2))
        run(params, optimizer, range(2, 5), gaps=True)
        run(params, optimizer, range(5, 7))
    assert same(plain, swapped)
    assert same_states(kept.state_dict()["state"], filed.state_dict()["state"])
    if cls is CPUAdam and filed.param_groups[0]["state_dtype"] is None:
        assert check_bounds(filed) >= 4 * LIMIT


def test_bits_of_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_OPS", "reference")
    plain, kept, swapped, filed = pair(CPUAdam, tmp_path, FLOATS, rounding="stochastic")
    for params, optimizer in ((plain, kept), (swapped, filed)):
        run(params, optimizer, range(2), gaps=True)
    assert same(plain, swapped)


def test_every_byte_is_transferred_once_each_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages around a file's end count in full."""
    *_, swapped, filed = pair(CPUAdam, tmp_path)
    run(swapped[:1], filed, range(1))
    moved = {"async_pread": 0, "async_pwrite": 0}
    handle = type(filed.store.stream._handles[0])
    for name in moved:
        real = getattr(handle, name)

        def counted(self: Any, buffer: Any, *rest: Any, real: Any = real, name: str = name) -> int:
            moved[name] += buffer.nbytes
            return int(real(self, buffer, *rest))

        monkeypatch.setattr(handle, name, counted)
    run(swapped[:1], filed, range(1, 2))
    assert {*moved.values()} == {8 << 19}


@pytest.mark.parametrize("fused", [False, True])
def test_grad_scaler(fused: bool, tmp_path: Path) -> None:
    plain, kept, swapped, filed = pair(CPUAdam, tmp_path, fused=fused)
    for params, optimizer in ((plain, kept), (swapped, filed)):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for step in range(4):
            optimizer.zero_grad()
            loss = sum(param.square().sum() for param in params)
            if step == 2:
                loss = loss * float("inf")
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert same(plain, swapped)
    steps = {float(state["step"]) for state in filed.state.values()}
    assert steps == {3.0}
    assert same_states(kept.state_dict()["state"], filed.state_dict()["state"])


def saved(state: Any) -> Any:
    file = memory_files.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


@pytest.mark.parametrize("swapped_first", [True, False])
@pytest.mark.parametrize("swapped_then", [True, False])
def test_resumes_from_either(swapped_first: bool, swapped_then: bool, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "then"]
    for folder in folders:
        folder.mkdir(0o700)
    whole = parameters(FLOATS)
    run(whole, CPUAdam(whole, master_dtype=torch.float32), range(4))
    params, state = parameters(FLOATS), None
    for folder, swapped, steps in zip(
        folders, (swapped_first, swapped_then), (range(2), range(2, 4)), strict=True
    ):
        given: dict[str, Any] = {"swap_dir": folder, "swap_memory": LIMIT} if swapped else {}
        optimizer = CPUAdam(params, master_dtype=torch.float32, **given)
        if state is not None:
            optimizer.load_state_dict(state)
            assert not swapped or check_bounds(optimizer)
        run(params, optimizer, steps)
        state = saved(optimizer.state_dict())
        optimizer.close()
    assert same(whole, params)


def test_its_own_state_is_loaded(tmp_path: Path) -> None:
    plain, kept, swapped, filed = pair(CPUAdam, tmp_path)
    for params, optimizer in ((plain, kept), (swapped, filed)):
        run(params, optimizer, range(2))
        early = saved(optimizer.state_dict())
        optimizer.load_state_dict(optimizer.state_dict())
        run(params, optimizer, range(2, 4))
        optimizer.load_state_dict(early)
        run(params, optimizer, range(4, 6))
    assert same(plain, swapped)
    assert len([name for name in left(tmp_path) if name.endswith(".states")]) == 1


def test_groups_and_states_may_change(tmp_path: Path) -> None:
    """Users add groups, move parameters, and change, exchange, replace or delete states."""
    plain, kept, swapped, filed = pair(CPUAdam, tmp_path)
    for params, optimizer in ((plain, kept), (swapped, filed)):
        run(params, optimizer, range(2))
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(5000))], "lr": 0.1})
        more = [*params, *optimizer.param_groups[1]["params"]]
        run(more, optimizer, range(2, 4))
        state = optimizer.state
        state[params[0]]["exp_avg"].mul_(0.5)
        two, other = state[params[3]], state[params[4]]
        two["exp_avg_sq"] = torch.full_like(two["exp_avg_sq"], 0.25)
        run(more, optimizer, range(4, 5))
        del state[params[4]]
        assert other["exp_avg"].shape == params[4].shape
        run(more, optimizer, range(5, 6))
        first, second = state[params[0]], state[params[3]]
        first["exp_avg"].abs_()
        first["exp_avg"], first["exp_avg_sq"] = first["exp_avg_sq"], first["exp_avg"]
        del optimizer.param_groups[0]["params"][3]
        optimizer.param_groups[1]["params"].append(params[3])
        run(more, optimizer, range(6, 8))
        optimizer.param_groups[0]["amsgrad"] = True
        run(more, optimizer, range(8, 10))
        assert second["step"] == 10
    assert same(plain, swapped)
    assert same_states(kept.state_dict()["state"], filed.state_dict()["state"])


def test_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("swap")
    for name, value in {"STEPS": 2, "LAYERS": 4, "LIMIT": 8 * example.MIB}.items():
        monkeypatch.setattr(example, name, value)
    picture = tmp_path / "swap.png"
    example.main(str(tmp_path), picture)
    told = capsys.readouterr().out
    assert told.count("states: 32 MiB") == 2
    assert "the parameters have the same bits" in told
    if importlib.util.find_spec("matplotlib") is not None:
        assert picture.read_bytes().startswith(b"\x89PNG")
        picture.unlink()
    assert left(tmp_path) == set()


def test_a_state_dict_costs_no_copy(tmp_path: Path) -> None:
    *_, swapped, filed = pair(CPUAdam, tmp_path)
    run(swapped, filed, range(2))
    names = left(tmp_path)
    state = filed.state_dict()["state"]
    size = sum(path.stat().st_size for path in tmp_path.glob("*.states"))
    needed = sum(value.nbytes for entry in state.values() for value in entry.values())
    assert needed < size < 1.1 * needed
    assert all(
        any(one.holds(entry["exp_avg"]) for one in filed.store.extents)
        for entry in state.values()
        if entry["exp_avg"].numel()
    )
    run(swapped, filed, range(2, 4))
    assert left(tmp_path) == names


def test_files_go_with_the_optimizer(tmp_path: Path) -> None:
    def use(folder: Path) -> Any:
        params = parameters()
        optimizer = CPUAdam(params, swap_dir=folder)
        run(params, optimizer, range(1))
        assert len(left(folder)) == 4
        return optimizer

    use(tmp_path).close()
    assert left(tmp_path) == set()
    use(tmp_path)
    gc.collect()
    assert left(tmp_path) == set()


def killed(folder: Path, bucket: int, *, keep: bool = False) -> None:
    """Do two steps in a process that is killed after a bucket of step 3, or at once if it is 0."""

    def train() -> None:
        params, done = parameters(), []
        optimizer = CPUAdam(params, swap_dir=folder, swap_memory=LIMIT, swap_keep=keep)
        run(params, optimizer, range(2))
        real = group._Stepping.bucket

        def counted(*arguments: Any) -> None:
            real(*arguments)
            done.append(1)
            if len(done) == bucket:
                os.kill(os.getpid(), signal.SIGKILL)

        if bucket:
            group._Stepping.bucket = counted  # type: ignore[method-assign]
            run(params, optimizer, range(2, 3))
        os.kill(os.getpid(), signal.SIGKILL)

    _, status = os.waitpid(start_child(train), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def two_steps() -> dict[int, Any]:
    params = parameters()
    optimizer = CPUAdam(params)
    run(params, optimizer, range(2))
    found: dict[int, Any] = optimizer.state_dict()["state"]
    return found


@pytest.mark.parametrize("bucket", [1, 16])
def test_a_process_killed_in_mid_step(bucket: int, tmp_path: Path) -> None:
    killed(tmp_path, bucket)
    with pytest.raises(SwapFailed, match=r"ended in the middle of step 3.*from a checkpoint"):
        read_swap(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"in the middle of step 3\. They are removed"):
        optimizer = CPUAdam(parameters(), swap_dir=tmp_path)
    assert left(tmp_path) == {"accel-swap.lock", "accel-swap.progress"}
    optimizer.close()


@pytest.mark.parametrize("keep", [False, True])
def test_a_process_killed_between_steps(keep: bool, tmp_path: Path) -> None:
    killed(tmp_path, 0, keep=keep)
    states = read_swap(tmp_path)
    assert same_states(states, two_steps())
    if keep:
        with pytest.raises(SwapFailed, match="holds the states of step 2, kept by swap_keep"):
            CPUAdam(parameters(), swap_dir=tmp_path)
        assert same_states(read_swap(tmp_path), states)
        return
    with pytest.warns(RuntimeWarning, match="was killed after step 2. They are removed"):
        CPUAdam(parameters(), swap_dir=tmp_path).close()
    assert left(tmp_path) == set()


PROGRAM = """
import sys
sys.path.insert(0, "tests/support")
from swap_cases import LIMIT, parameters, run
from accel.optim import CPUAdam

for folder, keep in zip(sys.argv[1:], (False, True)):
    params = parameters()
    optimizer = CPUAdam(params, swap_dir=folder, swap_memory=LIMIT, swap_keep=keep)
    run(params, optimizer, range(2))
    last = optimizer  # alive until the end of the process
"""


def test_files_at_the_end_of_a_process(tmp_path: Path) -> None:
    folders = [tmp_path / "removed", tmp_path / "kept"]
    for folder in folders:
        folder.mkdir(0o700)
    program = [sys.executable, "-c", PROGRAM, *map(str, folders)]
    subprocess.run(program, cwd=Path(__file__).parents[3], check=True, timeout=120)
    assert left(folders[0]) == set()
    with pytest.raises(SwapFailed, match="holds no states"):
        read_swap(folders[0])
    states = read_swap(folders[1])
    assert same_states(states, two_steps())
    optimizer = CPUAdam(parameters())
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    assert same_states(optimizer.state_dict()["state"], states)


def test_a_killed_process_leaves_a_step_or_none(tmp_path: Path) -> None:
    """Kills at any time: what is read then is one of the steps, to the bit."""
    params = parameters()
    optimizer, done = CPUAdam(params), 0

    def train() -> None:
        swapped = parameters()
        filed = CPUAdam(swapped, swap_dir=tmp_path, swap_memory=LIMIT)
        run(swapped, filed, range(1000))

    for pause in (0.0, 0.03, 0.07):
        child, begun = start_child(train), time.monotonic()
        while not (tmp_path / "accel-swap.layout").exists() and time.monotonic() < begun + 60:
            time.sleep(0.01)
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            states = read_swap(tmp_path)
        except SwapFailed as error:
            assert "in the middle of step" in str(error)
        else:
            last = int(states[0]["step"])
            if last < done:
                params, done = parameters(), 0
                optimizer = CPUAdam(params)
            run(params, optimizer, range(done, last))
            done = last
            assert same_states(states, optimizer.state_dict()["state"])
        for path in tmp_path.iterdir():
            path.unlink()
