"""`Batch`: tensors that a reference steps together, as if they were one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.random_keys import random_key, random_keys
from accel.ops.optimizers.reference.common import Scalar, exactly
from accel.ops.rounding import element_numbers, rounded, store


class Batch:
    """Tensors that are stepped together; in this class one tensor, of any kind and layout.

    Attributes:
        tensors: their lists.
        time: the number of the step; if it is on a device, a tensor with one element for each.

    Args:
        tensors: see above.
        time: the number of the step; ``None``: the tensors' counters plus `ahead`.
        ahead: difference between the step's number and the counters.
    """

    def __init__(self, tensors: TensorLists, time: float | None, ahead: float) -> None:
        self.tensors = tensors
        self.time: Scalar = self._time(ahead) if time is None else time

    def _time(self, ahead: float) -> Tensor:
        assert self.tensors.steps is not None
        return exactly(self.tensors.steps[0].reshape(())) + ahead

    @property
    def wide(self) -> torch.dtype:
        """The type of the computation."""
        return torch.float64 if self.tensors.params[0].dtype == torch.float64 else torch.float32

    def read(self, role: str) -> Tensor:
        """Return a role's values in the type of the computation; not to be written."""
        return self.tensors.roles[role][0].to(self.wide)

    def spread(self, scalar: Scalar) -> Scalar:
        """Return one number per tensor in a shape that broadcasts to the elements from `read`."""
        return scalar

    def write(self, role: str, values: Tensor) -> None:
        """Store values that are as `read` returns them."""
        self.tensors.roles[role][0].copy_(values)

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum of each tensor's values, as `spread` takes it."""
        return values.sum()

    def read_extra(self, role: str) -> Tensor:
        """Return extra tensors, stacked along a new first dimension if there are several."""
        return self.tensors.extras[role][0]

    def write_extra(self, role: str, values: Tensor) -> None:
        """Store values that are as `read_extra` returns them."""
        self.tensors.extras[role][0].copy_(values)

    def round(self, role: str, values: Tensor, hyper: Hyper, stream: int) -> None:
        """Store values, rounded as a step says, by random bits of a stream of each tensor."""
        target, number = self.tensors.roles[role][0], self.tensors.numbers[0]
        key = random_key(hyper.seed, self.time, number, stream)
        store(target, values, hyper.rounding, key, self.tensors.start(0))


class Together(Batch):
    """Several tensors, alike in device, element types and, if a host knows it, step."""

    def _time(self, ahead: float) -> Tensor:
        assert self.tensors.steps is not None
        return exactly(torch.stack([step.reshape(()) for step in self.tensors.steps])) + ahead

    def spread(self, scalar: Scalar) -> Scalar:
        """Return a number of each tensor as `each` does; one for all as it is."""
        return self.each(scalar) if isinstance(scalar, Tensor) and scalar.dim() else scalar

    def round(self, role: str, values: Tensor, hyper: Hyper, stream: int) -> None:
        """Store values, rounded as a step says, by random bits of a stream of each tensor."""
        target = self.tensors.roles[role][0]
        if hyper.rounding != "nearest" and target.element_size() == 2:
            keys = random_keys(hyper.seed, self.time, self._numbers(), stream)
            values = rounded(values, target.dtype, self.each(keys), self._elements(role))
        self.write(role, values)

    def read_extra(self, role: str) -> Tensor:
        """Return further tensors of one shape along a new first dimension."""
        return torch.stack([*self.tensors.extras[role]])

    def write_extra(self, role: str, values: Tensor) -> None:
        """Store values that are as `read_extra` returns them."""
        torch._foreach_copy_([*self.tensors.extras[role]], values.unbind())

    def _numbers(self) -> Tensor:
        """Return the tensors' numbers, without a copy from the host, for which a device waits."""
        numbers, device = self.tensors.numbers, self.tensors.params[0].device
        first, count = numbers[0], len(numbers)
        if device.type == "cpu":
            return torch.tensor(numbers, dtype=torch.int64, device=device)
        if [*numbers] == [*range(first, first + count)]:
            return torch.arange(first, first + count, dtype=torch.int64, device=device)
        return torch.stack([torch.full((), n, dtype=torch.int64, device=device) for n in numbers])

    def each(self, vector: Tensor) -> Tensor:
        """Return a vector of one entry for each tensor as `spread` does."""
        raise NotImplementedError

    def _elements(self, role: str) -> Tensor:
        """Return the elements' numbers in their tensors."""
        raise NotImplementedError


class Stacked(Together):
    """Tensors of one shape, if need be of one layout, along a new first dimension."""

    def read(self, role: str) -> Tensor:
        """Return a role's values in the type of the computation, in new memory."""
        return torch.stack([*self.tensors.roles[role]]).to(self.wide)

    def write(self, role: str, values: Tensor) -> None:
        """Store values that are as `read` returns them."""
        torch._foreach_copy_([*self.tensors.roles[role]], values.unbind())

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum of each tensor's values, in a vector."""
        return values.view(len(values), -1).sum(1)

    def each(self, vector: Tensor) -> Tensor:
        """Return a vector of one entry for each tensor as `spread` does."""
        return vector.view(-1, *[1] * self.tensors.params[0].dim())

    def _elements(self, role: str) -> Tensor:
        return element_numbers(self.tensors.roles[role][0]) + self.tensors.start(0)


class Joined(Together):
    """Contiguous tensors end to end."""

    def __init__(self, tensors: TensorLists, time: float | None, ahead: float) -> None:
        flat: dict[str, Sequence[Tensor]] = {
            role: [*map(_flat, listed)] for role, listed in tensors.roles.items()
        }
        super().__init__(
            TensorLists(flat, tensors.steps, tensors.extras, tensors.numbers, tensors.starts),
            time,
            ahead,
        )
        self._sizes = [tensor.numel() for tensor in tensors.params]

    def read(self, role: str) -> Tensor:
        """Return a role's values in the type of the computation, in new memory."""
        return torch.cat([*self.tensors.roles[role]]).to(self.wide)

    def write(self, role: str, values: Tensor) -> None:
        """Store values that are as `read` returns them."""
        torch._foreach_copy_([*self.tensors.roles[role]], torch.split(values, self._sizes))

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum of each tensor's values, in a vector."""
        return torch.stack([one.sum() for one in torch.split(values, self._sizes)])

    def each(self, vector: Tensor) -> Tensor:
        """Return a vector of one entry for each tensor as `spread` does."""
        entries = zip(vector.unbind(), self._sizes, strict=True)
        return torch.cat([entry.expand(size) for entry, size in entries])

    def _elements(self, role: str) -> Tensor:
        listed = self.tensors.roles[role]
        numbers = [element_numbers(t) + self.tensors.start(i) for i, t in enumerate(listed)]
        return torch.cat(numbers)


def _flat(tensor: Tensor) -> Tensor:
    return tensor if tensor.dim() == 1 else tensor.view(-1)
