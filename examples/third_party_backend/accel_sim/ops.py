"""``moving_average``: the average of weights over the steps of a training, kept beside them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from accel import accelerator_for
from accel.errors import AccelError
from accel.ops.base import Op

if TYPE_CHECKING:
    from accel.jit import Library


class MovingAverage(Op):
    """Exponential moving averages; native on the simulated device, plain PyTorch elsewhere."""

    name: ClassVar[str] = "moving_average"
    functions: ClassVar[tuple[str, ...]] = ("update",)
    conformance: ClassVar[str] = "accel_sim.spec:MovingAverageSpec"

    def __init__(self, library: Library | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._native: Any = None
        if library is not None:
            self._native = library.handle.sim_moving_average
            pointer, number = ctypes.c_void_p, ctypes.c_double
            self._native.argtypes = [pointer, pointer, ctypes.c_int64, number, pointer]

    def update(self, averages: Sequence[Tensor], values: Sequence[Tensor], decay: float) -> None:
        """Move each average towards its value, in place: ``a += (1 - decay) * (v - a)``.

        Args:
            averages: what is moved.
            values: as many tensors, each of its average's shape, dtype and device.
            decay: how much of the average stays, in [0, 1].

        Raises:
            ValueError: an argument is out of range or does not match; nothing has been written.
        """
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay is {decay}; expected a number in [0, 1].")
        if len(averages) != len(values):
            raise ValueError(f"{len(averages)} averages and {len(values)} values.")
        for index, (average, value) in enumerate(zip(averages, values, strict=True)):
            for what in ("shape", "dtype", "device"):
                mine, wanted = getattr(value, what), getattr(average, what)
                if mine != wanted:
                    raise ValueError(f"values[{index}] has {what} {mine}; expected {wanted}.")
        for average, value in zip(averages, values, strict=True):
            torch.ops.accel_sim.moving_average_(average, value, decay)

    @torch.no_grad()
    def step(self, average: Tensor, value: Tensor, decay: float) -> None:
        """Do one pair, natively where its memory is what the library takes."""
        plain = average.dtype == torch.float32 and all(
            tensor.is_contiguous() and not tensor.is_neg() for tensor in (average, value)
        )
        if self._native is None or not plain:
            average.add_(value - average, alpha=1.0 - decay)
        elif average.numel():
            stream = torch.get_device_module(average.device).current_stream(average.device)
            pointers = average.data_ptr(), value.data_ptr()
            status = self._native(*pointers, average.numel(), decay, stream.native_handle)
            if status:
                raise AccelError(f"sim_moving_average in {self.path} returned {status}.")


# The dispatcher's op is what torch.compile sees; it finds the loaded op of the tensor's device.
@torch.library.custom_op("accel_sim::moving_average_", mutates_args={"average"})
def _moving_average_(average: Tensor, value: Tensor, decay: float) -> None:
    op = accelerator_for(average).create_op_builder("MovingAverageBuilder").load()
    op.step(average, value, decay)


@_moving_average_.register_fake
def _(average: Tensor, value: Tensor, decay: float) -> None:
    """Nothing is returned, and no shape changes."""
