"""The op: its meaning, the order of streams, and ``torch.compile``."""

import pytest
import torch
from accel_sim import SimAccelerator

from accel.testing import OpConformance

ACC = SimAccelerator()
needs_device = pytest.mark.skipif(not ACC.is_available(), reason=str(ACC.probe()))


class TestMovingAverage(OpConformance):
    """The kit's tests, with the op's own spec."""

    accelerator = SimAccelerator
    ops = ("moving_average",)


@needs_device
def test_runs_in_the_order_of_its_stream() -> None:
    """The kernel reads what its stream makes before it, however late."""
    from simulator.library import late

    op = ACC.create_op_builder("MovingAverageBuilder").load()
    assert op.implementation == "jit"
    stream = ACC.Stream()
    with late(0.02, stream), ACC.stream(stream):
        average, value = (torch.full((64,), number, device="sim") for number in (1.0, 2.0))
        op.update([average], [value * 2], 0.5)
        result = average * 2
    stream.synchronize()
    assert result.tolist() == [5.0] * 64


@needs_device
def test_compiles() -> None:
    """``torch.compile`` sees one op, without a graph break."""
    op = ACC.create_op_builder("MovingAverageBuilder").load()
    arguments = (torch.zeros(3, device="sim"), torch.ones(3, device="sim"), 0.5)
    torch.library.opcheck(torch.ops.accel_sim.moving_average_.default, arguments)

    @torch.compile(backend=ACC.get_compile_backend(), fullgraph=True)
    def step(average: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        op.update([average], [value], 0.5)
        return average * 1

    assert step(torch.zeros(3, device="sim"), torch.ones(3, device="sim")).tolist() == [0.5] * 3
