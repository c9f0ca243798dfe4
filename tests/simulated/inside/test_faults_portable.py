"""Tables of portable kernels: their copies wait for nothing, and a capture can take them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch_sim  # noqa: F401 - gives torch the device
from simulator.library import late
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from accel.errors import Unsupported
from accel.ops.optimizers.prepared.table import PointerTable
from accel.ops.optimizers.reference.adam import ADAM
from accel.ops.optimizers.triton import table
from accel.ops.optimizers.triton.table import BLOCK, FIRST_BLOCK, NUMEL, DeviceTable, device_table

STATES = ("exp_avgs", "exp_avg_sqs")
SIZES = (5, 16, BLOCK, BLOCK + 16, 3 * BLOCK + 1, 64)


class Waits(TorchDispatchMode):
    """Every operator that makes the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        devices = {arg.device.type for arg in args if isinstance(arg, Tensor)}
        if name == "copy_" and devices == {"cpu", "sim"}:
            late = len(args) > 2 and args[2]
            if not (late and args[1].is_pinned()):
                self.seen.append(f"copy_ of {args[1].device}, non_blocking={late}")
        elif name in {"_local_scalar_dense", "_to_copy"} and (
            "sim" in devices or kwargs.get("device", torch.device("cpu")).type == "sim"
        ):
            self.seen.append(name)
        return func(*args, **kwargs)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has made no table."""
    table._kept.clear()
    table._captured.clear()
    if hasattr(table, "Reserve"):
        monkeypatch.setattr(table, "_reserve", table.Reserve())
    yield
    torch.accelerator.synchronize()


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The devices on which a graph is being captured."""
    devices: set[int] = set()
    monkeypatch.setattr(
        torch.sim,
        "is_current_stream_capturing",
        lambda: torch.sim.current_device() in devices,
        raising=False,
    )
    return devices


class Call:
    """An op's arguments, for tensors that live as long as it."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.roles = {
            role: [torch.zeros(size, device=device) for size in SIZES]
            for role in ("params", "grads", *STATES)
        }
        self.args = ADAM.args()
        self.pointers = PointerTable(self.roles)
        self.pointers.fill(self.args)

    def table(self) -> DeviceTable:
        return device_table(self.args, STATES, self.device)

    def check(self, made: DeviceTable) -> None:
        torch.accelerator.synchronize(self.device)
        rows = made.rows.cpu()
        assert rows[1:, NUMEL].tolist() == [*SIZES]
        assert rows[1:, table._ADDRESSES].tolist() == [
            param.data_ptr() for param in self.roles["params"]
        ]
        assert rows[1:, table._ADDRESSES + 5].tolist() == [
            state.data_ptr() for state in self.roles[STATES[1]]
        ]
        covered = dict.fromkeys(range(len(SIZES)), 0)
        for owners, aligned in made.launches:
            for program, owner in enumerate(owners.cpu().tolist()):
                block = program - int(rows[1 + owner, FIRST_BLOCK])
                assert block == covered[owner]
                assert (SIZES[owner] % 16 == 0) == aligned
                covered[owner] += 1
        assert covered == {index: -(-size // BLOCK) for index, size in enumerate(SIZES)}


def test_a_new_table_waits_for_nothing() -> None:
    call = Call("sim")
    with late(0.005):
        with Waits() as waits:
            made = call.table()
        # What was let go must not be overwritten before it has been copied.
        for _ in range(3):
            torch.full((len(SIZES) * 20,), -1, dtype=torch.int64, pin_memory=True)
    assert waits.seen == []
    call.check(made)
    assert call.table() is made


def test_a_capture_takes_its_copy_from_memory_put_aside(
    capturing: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, inside = Call("sim:1"), Call("sim:1")
    before.table()
    # Another device is current, as it may be: the tensors' device counts.
    torch.sim.set_device(0)
    capturing.add(1)
    empty = torch.empty

    def no_pinned(*args: Any, **options: Any) -> Tensor:
        assert not options.get("pin_memory"), "pinned memory cannot be allocated in a capture"
        return empty(*args, **options)

    monkeypatch.setattr(torch, "empty", no_pinned)
    with Waits() as waits:
        first, second = inside.table(), inside.table()
    capturing.clear()
    monkeypatch.undo()
    assert waits.seen == []
    inside.check(first)
    # The first table is empty until its graph is replayed: nobody else may use it.
    assert second is not first and all(inside.table() is not one for one in (first, second))
    captured = [kept for kept, _ in table._captured]
    assert len(captured) == 2 and captured[0] is first and captured[1] is second
    for made, memory in table._captured:
        assert memory is not None and memory.is_pinned()
        rows = memory[: made.rows.numel()].view(made.rows.shape)
        assert torch.equal(rows, made.rows.cpu())


def test_a_table_made_before_a_capture_is_kept_for_it(capturing: set[int]) -> None:
    call = Call("sim:1")
    made = call.table()
    capturing.add(1)
    assert call.table() is made
    assert any(kept is made for kept, _ in table._captured)


def test_without_memory_put_aside_a_capture_is_told_what_to_do(capturing: set[int]) -> None:
    call = Call("sim")
    capturing.add(0)
    with Waits() as waits, pytest.raises(Unsupported, match="Step once outside of the capture"):
        call.table()
    assert waits.seen == [] and not table._kept and not table._captured
    capturing.clear()
    call.table()
    capturing.add(0)
    Call("sim").table()


def test_many_captures_follow_one_step(capturing: set[int]) -> None:
    call = Call("sim")
    call.table()
    capturing.add(0)
    later = [Call("sim") for _ in range(8)]
    made = [other.table() for other in later]
    capturing.clear()
    memory = [staging.data_ptr() for _, staging in table._captured if staging is not None]
    assert len(set(memory)) == len(later)
    for other, its in zip(later, made, strict=True):
        other.check(its)
