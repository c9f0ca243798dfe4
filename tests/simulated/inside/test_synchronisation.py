"""A synchronisation that is taken out shows on late streams; run in a process of its own.

Every case is run as it is, and again with one synchronisation removed: then it must fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import accel_sim.ops as stranger_ops
import pytest
import torch
from late_backend import LateAccelerator
from simulator.library import late
from torch import Tensor

import accel
from accel import optim
from accel.builders import cuda
from accel.builders.kinds import declared

LATE_S = 0.03
HOST_OPTIMIZERS = tuple(name for name in optim.__all__ if isinstance(getattr(optim, name), type))
DEVICE_OPTIMIZERS = tuple(name for name in HOST_OPTIMIZERS if not name.startswith("CPU"))
Case = Callable[[], None]


@pytest.fixture(autouse=True)
def late_accelerator() -> Iterator[None]:
    accel.set_accelerator(LateAccelerator())
    spoil_free_memory()
    yield
    accel.set_accelerator(None)
    torch.accelerator.synchronize()


def spoil_free_memory() -> None:
    """Fill what the next tensors may get: it may hold what the case before made, as if not late."""
    spoilt = [torch.full((n,), torch.nan, device="sim") for n in (1, 64, 300) for _ in range(100)]
    torch.accelerator.synchronize()
    del spoilt


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.detach().cpu(), expected.detach().cpu())


def stepped(name: str, device: str, gradient: Tensor) -> Tensor:
    """Return a parameter after one step of an optimizer, on whatever stream is current."""
    parameter = torch.nn.Parameter(torch.ones(300, device=device))
    optimizer = getattr(accel.optim, name)([parameter], lr=0.1)
    parameter.grad = gradient
    optimizer.step()
    if device == "sim":
        builder = getattr(accel.optim, name).builder
        assert accel.get_accelerator().create_op_builder(builder).load().implementation == "jit"
    return parameter.detach()


def runs_on_the_current_stream(name: str) -> None:
    """The gradient is made on a stream of its own, and the step comes between it and a reader.

    All streams are late, since a step of several operators may itself wait for the gradient.
    """
    stream = torch.sim.Stream()
    with late(LATE_S), torch.sim.stream(stream):
        gradient = torch.linspace(2, 4, 300).to("sim") * 3
        result = stepped(name, "sim", gradient) * 1
    stream.synchronize()
    close(result, stepped(name, "cpu", torch.linspace(2, 4, 300) * 3))


def waits_for_the_makers_event(name: str) -> None:
    """Another stream made the gradient; the step's stream waits for its event."""
    maker, user = torch.sim.Stream(), torch.sim.Stream()
    with late(LATE_S, maker):
        with torch.sim.stream(maker):
            gradient = torch.linspace(2, 4, 300).to("sim") * 3
        WAIT(user, maker)
        with torch.sim.stream(user):
            result = stepped(name, "sim", gradient) * 1
        user.synchronize()
        maker.synchronize()
    close(result, stepped(name, "cpu", torch.linspace(2, 4, 300) * 3))


def WAIT(user: torch.Stream, maker: torch.Stream) -> None:
    user.wait_stream(maker)


def host_step(name: str, policy: str) -> None:
    """Parameters on the host, a scaler's ``found_inf`` and scale on the device, made late."""
    gradient = torch.rand(300) + 0.5
    kind = getattr(accel.optim, name)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCEL_OPS", policy)
        for scaled in (False, True):
            parameter = torch.nn.Parameter(torch.ones(300))
            optimizer = kind([parameter], lr=0.1)
            parameter.grad = gradient * (1024 if scaled else 1)
            with late(LATE_S):
                if scaled:
                    optimizer.grad_scale = torch.full((1,), 2.0, device="sim") * 512
                    optimizer.found_inf = torch.ones(1, device="sim") - 1
                optimizer.step()
            results.append(parameter.detach())
    close(*reversed(results))


def moving_average_runs_on_the_current_stream() -> None:
    stream = torch.sim.Stream()
    op = stranger_ops.MovingAverage(LIBRARY(), backend="sim")
    average = torch.ones(64, device="sim")
    with late(LATE_S, stream), torch.sim.stream(stream):
        value = torch.full((64,), 2.0, device="sim") * 2
        op.step(average, value, 0.5)
    stream.synchronize()
    close(average, torch.full((64,), 2.5))


def LIBRARY() -> Any:
    from accel_sim.builders import MovingAverageBuilder

    from accel.jit import acquire

    return acquire(MovingAverageBuilder().recipe())


def results_are_read_after_synchronize() -> None:
    """A copy to pinned memory is there once the accelerator has been waited for."""
    host = torch.zeros(64).pin_memory()
    with late(LATE_S):
        host.copy_(torch.full((64,), 3.0, device="sim"), non_blocking=True)
        accel.get_accelerator().synchronize()
        found = host.clone()
    close(found, torch.full((64,), 3.0))


def events_are_waited_for() -> None:
    host = torch.zeros(64).pin_memory()
    event = accel.get_accelerator().Event()
    with late(LATE_S):
        host.copy_(torch.full((64,), 3.0, device="sim"), non_blocking=True)
        event.record()
        EVENT_WAIT(event)
        found = host.clone()
    close(found, torch.full((64,), 3.0))


def EVENT_WAIT(event: Any) -> None:
    event.synchronize()


def memory_in_use_elsewhere_is_recorded() -> None:
    """Memory that another stream still reads is not handed out again."""
    reader = torch.sim.Stream()
    host = torch.zeros(4096).pin_memory()
    given = torch.full((4096,), 5.0, device="sim")
    torch.accelerator.synchronize()
    with late(LATE_S, reader):
        with torch.sim.stream(reader):
            host.copy_(given, non_blocking=True)
        RECORD(given, reader)
        del given
        taken = torch.full((4096,), 7.0, device="sim")
        reader.synchronize()
    close(host, torch.full((4096,), 5.0))
    close(taken, torch.full((4096,), 7.0))


def RECORD(tensor: Tensor, stream: torch.Stream) -> None:
    tensor.record_stream(stream)


_to = Tensor.to


def to_without_waiting(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return _to(self, *args, **{**kwargs, "non_blocking": True})


def nothing(*_: object, **__: object) -> None:
    return None


def named(name: str, case: Callable[[], None]) -> Case:
    case.__name__ = name  # type: ignore[attr-defined]
    return case


CASES: dict[Case, tuple[Any, str, Any]] = {
    moving_average_runs_on_the_current_stream: (
        torch.sim,
        "current_stream",
        torch.sim.default_stream,
    ),
    results_are_read_after_synchronize: (LateAccelerator, "synchronize", nothing),
    events_are_waited_for: (__name__, "EVENT_WAIT", nothing),
    memory_in_use_elsewhere_is_recorded: (__name__, "RECORD", nothing),
    **{
        named(f"{name}-current-stream", partial(runs_on_the_current_stream, name)): (
            torch.sim,
            "current_stream",
            torch.sim.default_stream,
        )
        for name in DEVICE_OPTIMIZERS
    },
    **{
        named(f"{name}-event", partial(waits_for_the_makers_event, name)): (
            __name__,
            "WAIT",
            nothing,
        )
        for name in DEVICE_OPTIMIZERS
    },
    **{
        named(f"{name}-{policy}", partial(host_step, name, policy)): (
            Tensor,
            "to",
            to_without_waiting,
        )
        for name in HOST_OPTIMIZERS
        for policy in ("native", "reference")
    },
}


def test_every_optimizer_has_its_cases() -> None:
    assert {*accel.optim.__all__} - {*HOST_OPTIMIZERS} == {"clip_grad_norm_", "read_swap"}
    native = {kind.__name__ for _, kind in declared(cuda.__name__) if kind.backend == "cuda"}
    assert {getattr(optim, name).builder for name in DEVICE_OPTIMIZERS} == native


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_synchronised(case: Case) -> None:
    case()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_removed_synchronisation_shows(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, removed = CASES[case]
    if isinstance(owner, str):
        monkeypatch.setitem(globals(), name, removed)
    else:
        monkeypatch.setattr(owner, name, removed)
    # On a busy machine a late write may be in time.
    for _ in range(5):
        try:
            case()
        except AssertionError as error:
            assert "Tensor-likes are not close" in str(error)
            return
    pytest.fail("nothing shows that the synchronisation is gone")
