"""A process group for the simulated devices: gloo on host copies, results back onto the device."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch._C._distributed_c10d import AllgatherOptions


class HostGroup(dist.ProcessGroup):
    """Each collective waits for the current stream, runs on the host and is complete on return.

    What is missing here goes from torch to gloo with the devices' own memory, which gloo reads
    before it is written; and its thread, when it lets go of such a tensor, can hang the process.
    """

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)
        self.gloo = dist.ProcessGroupGloo(store, rank, size, timeout)
        # Torch keeps the group's name with a backend, and asks a backend what it can.
        kind = torch.accelerator.current_accelerator()
        self._register_backend(kind, dist.ProcessGroup.BackendType.CUSTOM, self.gloo)

    def getBackendName(self) -> str:
        return "host"

    def _through_host(self, call: Any, read: Any, written: Any, *args: Any) -> Any:
        """Call gloo with host copies of `read`; copy what it wrote back into `written`."""
        host_written = _map(written, Tensor.cpu)
        host_read = host_written if read is written else _map(read, Tensor.cpu)
        tensors = (host_written,) if read is written else (host_written, host_read)
        work = call(*tensors, *args)
        work.wait()
        for target, source in zip(_flat(written), _flat(host_written), strict=True):
            target.detach().copy_(source)
        return _Done(written)

    def allreduce(self, tensors: Any, opts: Any = None) -> Any:
        opts = opts or dist.AllreduceOptions()
        return self._through_host(self.gloo.allreduce, tensors, tensors, opts)

    def allreduce_coalesced(self, tensors: Any, opts: Any = None) -> Any:
        return self.allreduce(tensors)

    def broadcast(self, tensors: Any, opts: Any = None) -> Any:
        return self._through_host(
            self.gloo.broadcast, tensors, tensors, opts or dist.BroadcastOptions()
        )

    def allgather(self, output: Any, inputs: Any, opts: Any = None) -> Any:
        opts = opts or AllgatherOptions()
        return self._through_host(self.gloo.allgather, inputs, output, opts)

    def _allgather_base(self, output: Tensor, inputs: Tensor, opts: Any = None) -> Any:
        parts = list(output.chunk(self.size()))
        return self.allgather([parts], [inputs])

    def _reduce_scatter_base(self, output: Tensor, inputs: Tensor, opts: Any = None) -> Any:
        summed = inputs.clone()
        reduction = dist.AllreduceOptions()
        average = opts is not None and opts.reduceOp == dist.ReduceOp.AVG
        reduction.reduceOp = dist.ReduceOp.SUM if opts is None or average else opts.reduceOp
        self.allreduce([summed], reduction)
        output.copy_(summed.chunk(self.size())[self.rank()])
        if average:
            output.div_(self.size())
        return _Done([output])

    def allgather_into_tensor_coalesced(
        self, outputs: list[Tensor], inputs: list[Tensor], opts: Any = None
    ) -> Any:
        for output, given in zip(outputs, inputs, strict=True):
            self._allgather_base(output, given)
        return _Done(outputs)

    def reduce_scatter_tensor_coalesced(
        self, outputs: list[Tensor], inputs: list[Tensor], opts: Any = None
    ) -> Any:
        for output, given in zip(outputs, inputs, strict=True):
            self._reduce_scatter_base(output, given, opts)
        return _Done(outputs)

    # Since torch 2.13 these are asked for by other names.
    all_gather_single = _allgather_base
    reduce_scatter_single = _reduce_scatter_base
    all_gather_single_coalesced = allgather_into_tensor_coalesced
    reduce_scatter_single_coalesced = reduce_scatter_tensor_coalesced

    def reduce(self, tensors: Any, opts: Any) -> Any:
        return self._through_host(self.gloo.reduce, tensors, tensors, opts)

    def gather(self, output: Any, inputs: Any, opts: Any) -> Any:
        return self._through_host(self.gloo.gather, inputs, output, opts)

    def scatter(self, output: Any, inputs: Any, opts: Any) -> Any:
        return self._through_host(self.gloo.scatter, inputs, output, opts)

    def send(self, tensors: Any, peer: int, tag: int) -> Any:
        return self._through_host(self.gloo.send, tensors, tensors, peer, tag)

    def recv(self, tensors: Any, peer: int, tag: int) -> Any:
        return self._through_host(self.gloo.recv, tensors, tensors, peer, tag)

    def barrier(self, opts: Any = None) -> Any:
        torch.accelerator.synchronize()
        return self.gloo.barrier()


class _Done(dist._Work):
    """A collective that is complete."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self._result = result
        self._future: torch.futures.Future[Any] = torch.futures.Future()
        self._future.set_result(result)

    def wait(self, timeout: timedelta | None = None) -> bool:
        return True

    def is_completed(self) -> bool:
        return True

    def get_future(self) -> torch.futures.Future[Any]:
        return self._future


def register(name: str, device_type: str) -> None:
    """Make the group torch's communication backend `name` for a device type."""
    dist.Backend.register_backend(name, HostGroup, devices=[device_type])


def _map(tensors: Any, function: Any) -> Any:
    if isinstance(tensors, Tensor):
        return function(tensors.detach())
    return [_map(each, function) for each in tensors]


def _flat(tensors: Any) -> Sequence[Tensor]:
    if isinstance(tensors, Tensor):
        return [tensors]
    return [one for each in tensors for one in _flat(each)]
