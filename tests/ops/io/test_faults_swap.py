"""Bad folders, files changed behind an optimizer's back, forks and Ctrl-C: a clear end, or none."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from family_cases import compiles
from io_cases import in_child, libc
from swap_cases import LIMIT, left, parameters, run, same, same_states
from torch import nn

from accel.errors import AccelError, SwapFailed, Unsupported
from accel.optim import CPUAdagrad, CPUAdam, CPULion, read_swap
from accel.optim.swap import group, stream


def made(folder: Any, **options: Any) -> tuple[list[nn.Parameter], CPUAdam]:
    params = parameters()
    return params, CPUAdam(params, swap_dir=folder, **{"swap_memory": LIMIT, **options})


def states_of(folder: Path) -> Path:
    (path,) = folder.glob("*.states")
    return path


@pytest.mark.parametrize("cls", [CPUAdam, CPULion, CPUAdagrad])
def test_bad_arguments(cls: Any, tmp_path: Path) -> None:
    def refused(error: type[Exception], text: str, **options: Any) -> None:
        with pytest.raises(error, match=text):
            cls(parameters(), **options)

    refused(TypeError, r"swap_dir is 3; expected the path", swap_dir=3)
    refused(TypeError, r"swap_dir is ''; expected the path", swap_dir="")
    refused(SwapFailed, r"swap_dir is .*null", swap_dir="a\0b")
    refused(SwapFailed, r"gone, which does not exist; make it.*mkdir", swap_dir=tmp_path / "gone")
    (tmp_path / "file").touch()
    refused(SwapFailed, r"file, where files cannot be kept: Not a dir", swap_dir=tmp_path / "file")
    refused(TypeError, r"swap_memory is 1\.5; expected", swap_dir=tmp_path, swap_memory=1.5)
    refused(ValueError, r"swap_memory is 100 bytes; .* least 1048576", swap_dir=tmp_path,
            swap_memory=100)  # fmt: skip
    refused(ValueError, r"swap_memory is -1; expected", swap_memory=-1)
    assert left(tmp_path) == {"file"}


def test_folders_of_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SwapFailed, match=r"swap_dir is .*Others may write"):
        made(tmp_path)
    tmp_path.chmod(0o700)
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(SwapFailed, match=r"swap_dir is .*belongs to user id 12345"):
        made(tmp_path)
    os.chown(tmp_path, os.geteuid(), -1)
    tmp_path.chmod(0o1777)
    with pytest.raises(SwapFailed, match=r"swap_dir is .*Others may write"):
        made(tmp_path)
    assert left(tmp_path) == set()


def test_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    def run_it() -> None:
        if os.geteuid() == 0:
            os.chown(tmp_path, 65534, 65534)
            for folder in tmp_path.parents[:2]:
                folder.chmod(0o755)
            os.setresuid(65534, 65534, 65534)
        with pytest.raises(SwapFailed, match=r"cannot be kept: Permission denied.*may write"):
            made(tmp_path)

    modes = [(folder, folder.stat().st_mode) for folder in tmp_path.parents[:2]]
    try:
        in_child(run_it)
    finally:
        for folder, mode in modes:
            folder.chmod(mode)


def test_files_of_the_user_stay(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    theirs = tmp_path / "accel-swap-notes.txt"
    theirs.write_text("mine")
    leftover = tmp_path / ".accel-swap.layout.1.abcdef"
    leftover.touch()
    params, optimizer = made(tmp_path)
    assert not leftover.exists()
    run(params, optimizer, range(1))
    optimizer.close()
    assert [*tmp_path.iterdir()] == [theirs]


def test_one_optimizer_a_folder(tmp_path: Path) -> None:
    params, optimizer = made(tmp_path)
    run(params, optimizer, range(1))
    text = f"an optimizer of process {os.getpid()} .* uses; give each .* of its own"

    def refused() -> None:
        for use in (made, read_swap):
            with pytest.raises(SwapFailed, match=text):
                use(tmp_path)

    refused()
    in_child(refused)
    run(params, optimizer, range(1, 2))
    optimizer.close()
    made(tmp_path)[1].close()


def test_a_full_disk(tmp_path: Path) -> None:
    """The limit of a file's size stands for a disk: both refuse to reserve the blocks."""
    doubles = [nn.Parameter(torch.ones(10, dtype=torch.float64)) for _ in range(2)]
    plain, params = ([one, *parameters()] for one in doubles)
    kept, optimizer = CPUAdam(plain), CPUAdam(params, swap_dir=tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        for _ in range(2):
            with pytest.raises(SwapFailed, match=r"cannot be kept: File too large; .*ulimit -f"):
                run(params, optimizer, range(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(plain, params)
    # The file of the first parameter, for which there was room, is gone again.
    assert [name for name in left(tmp_path) if name.endswith("states")] == []
    run(plain, kept, range(2))
    run(params, optimizer, range(2))
    assert same(plain, params)


def fill_up(path: Path) -> Path:
    """Return a new file that takes the rest of its disk."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return path


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """2 MiB of tmpfs; in a mount of its own, which needs the right to make one."""
    new_mounts = 0x20000

    def fill() -> None:
        libc("unshare", new_mounts)
        libc("mount", b"none", b"/", None, 0x44000, None)
        libc("mount", b"none", os.fsencode(tmp_path), b"tmpfs", 0, b"size=2m,mode=700")
        params, optimizer = made(tmp_path)
        with pytest.raises(SwapFailed, match=r"No space left.*; \d+ bytes are free"):
            run(params, optimizer, range(1))
        small = [nn.Parameter(torch.ones(100000))]
        optimizer.close()
        optimizer = CPUAdam(small, swap_dir=tmp_path, swap_memory=LIMIT)
        run(small, optimizer, range(3))
        plain = [nn.Parameter(torch.ones(100000))]
        run(plain, CPUAdam(plain), range(3))
        assert same(plain, small)
        # What is left of the disk is not enough to record new places.
        fresh = copy.deepcopy(optimizer.state_dict())
        rest = fill_up(tmp_path / "rest")
        for change in (
            lambda: optimizer.load_state_dict(fresh),
            lambda: [optimizer.state.clear(), run(small, optimizer, range(3, 4))],
        ):
            with pytest.raises(SwapFailed, match=r"No space left.*No parameter has been changed"):
                change()
            assert same(plain, small)
        rest.unlink()
        optimizer.load_state_dict(fresh)
        run(small, optimizer, range(3, 4))
        assert float(optimizer.state[small[0]]["step"]) == 4
        assert float(fresh["state"][0]["step"]) == 3, "the loaded state counts by itself"
        optimizer.close()
        assert os.statvfs(tmp_path).f_bavail == os.statvfs(tmp_path).f_blocks

    try:
        in_child(lambda: libc("unshare", new_mounts))
    except AssertionError:
        pytest.skip("this user cannot make a mount")
    in_child(fill)


def truncate(path: Path) -> None:
    os.truncate(path, 4096)


def alter(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x")


def replace(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (truncate, r"states has 4096 bytes instead of \d+"),
    (alter, r"states was changed by somebody else"),
    (replace, r"states was replaced by another file"),
    (Path.unlink, r"states cannot be found any more"),
]


@pytest.mark.parametrize(("fault", "text"), FAULTS)
def test_files_changed_between_steps(
    fault: Callable[[Path], object], text: str, tmp_path: Path
) -> None:
    params, optimizer = made(tmp_path)
    run(params, optimizer, range(2))
    fault(states_of(tmp_path))
    before = copy.deepcopy(params)
    state: dict[str, Any] = {"state": {}, "param_groups": []}
    for use in (
        lambda: run(params, optimizer, range(2, 3)),
        optimizer.state_dict,
        lambda: optimizer.load_state_dict(state),
    ):
        with pytest.raises(SwapFailed, match=f"swap_dir is .*{text}.* states are lost. Make a new"):
            use()
    assert same(before, params)
    optimizer.close()
    assert left(tmp_path) == set()
    made(tmp_path)[1].close()


def in_bucket(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    """Let something happen after a bucket of the next step."""
    real, done = group._Stepping.bucket, []

    def counted(*arguments: Any) -> None:
        real(*arguments)
        done.append(1)
        if len(done) == number:
            act()

    monkeypatch.setattr(group._Stepping, "bucket", counted)


def test_a_file_cut_in_mid_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, optimizer = made(tmp_path, swap_keep=True)
    run(params, optimizer, range(1))
    path = states_of(tmp_path)
    in_bucket(monkeypatch, 2, lambda: truncate(path))
    text = r"step 2 ended in the middle: .*the file ends before that.* states are lost"
    for _ in range(2):
        with pytest.raises(SwapFailed, match=text):
            run(params, optimizer, range(1, 2))
    with pytest.raises(SwapFailed, match=text):
        optimizer.state_dict()
    optimizer.close()
    assert left(tmp_path) == set()


def test_another_error_in_mid_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("in the kernel")

    params, optimizer = made(tmp_path)
    in_bucket(monkeypatch, 2, fail)
    with pytest.raises(ZeroDivisionError):
        run(params, optimizer, range(1))
    with pytest.raises(SwapFailed, match="step 1 ended in the middle: in the kernel"):
        run(params, optimizer, range(1))


def test_errors_before_a_step_change_nothing(tmp_path: Path) -> None:
    plain = parameters()
    kept = CPUAdam(plain)
    params, optimizer = made(tmp_path)
    for listed, one in ((plain, kept), (params, optimizer)):
        extra = nn.Parameter(torch.ones(10))
        one.add_param_group({"params": [extra]})
        run(listed, one, range(2))
        extra.grad = torch.ones(10)
        one.state[extra] = {"exp_avg": "no tensor"}
        one.param_groups[0]["amsgrad"] = True
        with pytest.raises(TypeError, match=r"param_groups\[1\]: params\[0\]: state\['exp_avg'\]"):
            run(listed, one, range(2, 3))
        one.param_groups[0]["amsgrad"] = False
        del one.state[extra]
        run(listed, one, range(2, 4))
    assert same(plain, params)
    assert same_states(kept.state_dict()["state"], optimizer.state_dict()["state"])


def test_forks(tmp_path: Path) -> None:
    params, optimizer = made(tmp_path)
    run(params, optimizer, range(1))
    names = left(tmp_path)

    def use() -> None:
        text = rf"belong to process {os.getppid()}, and this is process {os.getpid()}"
        with pytest.raises(AccelError, match=text):
            run(params, optimizer, range(1, 2))
        with pytest.raises(AccelError, match=text):
            optimizer.state_dict()
        optimizer.close()

    in_child(use)
    assert left(tmp_path) == names
    run(params, optimizer, range(1, 2))


def test_ctrl_c_waits_for_the_end_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = parameters()
    run(plain, CPUAdam(plain), range(3))
    params, optimizer = made(tmp_path)
    run(params, optimizer, range(1))
    # A shell's background jobs ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            in_bucket(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                run(params, optimizer, range(1, 2))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    run(params, optimizer, range(2, 3))
    assert same(plain, params)


def test_closed(tmp_path: Path) -> None:
    params, optimizer = made(tmp_path)
    run(params, optimizer, range(1))
    held = optimizer.state_dict()["state"][0]["exp_avg"]
    before = held.clone()
    optimizer.close()
    optimizer.close()
    assert torch.equal(held, before)
    with pytest.raises(AccelError, match="the optimizer is closed, and its states are gone"):
        run(params, optimizer, range(1))
    CPUAdam(params).close()


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "states"
    for keep in (False, True):
        folder.mkdir(0o700)
        params, optimizer = made(folder, swap_keep=keep)
        run(params, optimizer, range(1))
        shutil.rmtree(folder)
        with pytest.raises(SwapFailed, match=r"states cannot be found any more"):
            run(params, optimizer, range(1, 2))
        optimizer.close()
    folder.mkdir(0o700)
    params, optimizer = made(folder, swap_keep=True)
    run(params, optimizer, range(1))
    shutil.rmtree(folder)
    with pytest.warns(RuntimeWarning, match="states may not be on the disk: .*No such file"):
        optimizer.close()


@pytest.mark.parametrize("use", [copy.deepcopy, pickle.dumps])
def test_no_copies(use: Callable[[Any], Any], tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"cannot be copied or pickled.* state_dict\(\)"):
        use(made(tmp_path)[1])


def test_parameters_elsewhere(tmp_path: Path) -> None:
    param = nn.Parameter(torch.ones(3, device="meta"))
    optimizer = CPUAdam([param], swap_dir=tmp_path)
    param.grad = torch.ones(3, device="meta")
    with pytest.raises((Unsupported, TypeError, ValueError), match="meta"):
        optimizer.step()


def test_a_damaged_record(tmp_path: Path) -> None:
    params, optimizer = made(tmp_path, swap_keep=True)
    run(params, optimizer, range(1))
    optimizer.close()
    layout = tmp_path / "accel-swap.layout"
    good = layout.read_bytes()
    for bad in (b"", good[:50], b"[]", re.sub(rb'"format": \d', b'"format": 9', good)):
        layout.write_bytes(bad)
        with pytest.raises(SwapFailed, match="has damaged files"):
            read_swap(tmp_path)
    layout.write_bytes(good)
    truncate(states_of(tmp_path))
    with pytest.raises(SwapFailed, match=r"damaged files.* 4096 bytes instead of"):
        read_swap(tmp_path)
    layout.write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="record is damaged"):
        made(tmp_path)[1].close()


def test_after_a_restart_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, optimizer = made(tmp_path, swap_keep=True)
    run(params, optimizer, range(1))
    layout = tmp_path / "accel-swap.layout"
    other = re.sub(rb'"boot": "[^"]*"', b'"boot": "another"', layout.read_bytes())
    layout.write_bytes(other)
    optimizer.close()
    assert read_swap(tmp_path)  # Closed: all is on the disk.
    with (tmp_path / "accel-swap.progress").open("r+b") as file:
        file.write(b"C")
    with pytest.raises(SwapFailed, match="the machine has restarted since"):
        read_swap(tmp_path)


@compiles
# torch's own, when it first traces any optimizer.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_step_is_not_traced(tmp_path: Path) -> None:
    plain = parameters()
    run(plain, CPUAdam(plain), range(2))
    params, optimizer = made(tmp_path)
    optimizer.step = torch.compile(optimizer.step, backend="eager")  # type: ignore[method-assign]
    run(params, optimizer, range(2))
    assert same(plain, params)
    assert optimizer.store is not None and optimizer.store.stream.allocated == LIMIT


def test_every_buffer_has_a_page_of_every_state() -> None:
    widest = 4 * torch.float64.itemsize
    assert stream.Stream(stream.LEAST).room // widest >= 4096
