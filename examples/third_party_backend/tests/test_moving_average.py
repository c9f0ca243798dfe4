"""The op, against torch's own arithmetic and on late streams."""

import pytest
import torch
from accel_sim import SimAccelerator

ACC = SimAccelerator()
pytestmark = pytest.mark.skipif(not ACC.is_available(), reason=str(ACC.probe()))


def test_native_matches_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both give the formula, for tensors that the kernel takes and for one that it does not."""
    average, value = torch.randn(2, 7, 5)
    expected = average + 0.1 * (value - average)
    for policy in ("native", "reference"):
        monkeypatch.setenv("ACCEL_OPS", policy)
        op = ACC.create_op_builder("MovingAverageBuilder").load()
        assert op.implementation == {"native": "jit", "reference": "reference"}[policy]
        for kept in (average.to("sim:1"), average.to("sim:1").t().contiguous().t()):
            op.update([kept], [value.to("sim:1")], 0.9)
            torch.testing.assert_close(kept.cpu(), expected)


def test_runs_in_the_order_of_its_stream() -> None:
    """The kernel reads what its stream makes before it, however late."""
    from simulator.library import late

    op = ACC.create_op_builder("MovingAverageBuilder").load()
    stream = ACC.Stream()
    with late(0.02, stream), ACC.stream(stream):
        average, value = (torch.full((64,), number, device="sim") for number in (1.0, 2.0))
        op.update([average], [value * 2], 0.5)
        result = average * 2
    stream.synchronize()
    assert result.tolist() == [5.0] * 64


def test_compiles() -> None:
    """``torch.compile`` sees one op without a graph break."""
    op = ACC.create_op_builder("MovingAverageBuilder").load()

    @torch.compile(backend=ACC.get_compile_backend(), fullgraph=True)
    def step(average: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        op.update([average], [value], 0.5)
        return average * 1

    assert step(torch.zeros(3, device="sim"), torch.ones(3, device="sim")).tolist() == [0.5] * 3


def test_opcheck() -> None:
    """Schema, fake and autograd registration hold together."""
    arguments = (torch.zeros(3, device="sim"), torch.ones(3, device="sim"), 0.5)
    torch.library.opcheck(torch.ops.accel_sim.moving_average_.default, arguments)


def test_refuses_what_does_not_match() -> None:
    """Wrong arguments are named."""
    op = ACC.create_op_builder("MovingAverageBuilder").load()
    one, two = torch.zeros(1, device="sim"), torch.zeros(2, device="sim")
    for arguments in (([one], [two], 0.5), ([one], [], 0.5), ([one], [one], 1.5)):
        with pytest.raises(ValueError, match=r"expected|averages"):
            op.update(*arguments)
