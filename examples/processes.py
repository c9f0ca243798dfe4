"""One process or many: who this one is, and how a model is spread over all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

import accel


@dataclass(frozen=True, slots=True)
class World:
    """The processes of this run, numbered as torchrun numbers them.

    Attributes:
        rank: this process among all, from 0.
        local_rank: this process on this machine, which is also the index of its device.
        size: how many processes there are.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0


def find_world() -> World:
    """Read the variables that torchrun sets; one process where they are absent."""
    rank, local_rank, size = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))
    )
    return World(rank, local_rank, size)


@contextmanager
def process_group(acc: accel.Accelerator, world: World, *, needed: bool) -> Iterator[None]:
    """Join the processes over the accelerator's communication backend, and part at the end.

    A single process joins nothing unless the group is `needed`.
    """
    if world.size == 1 and not needed:
        yield
        return
    device = acc.device(world.local_rank)
    dist.init_process_group(
        acc.communication_backend_name(),
        rank=world.rank,
        world_size=world.size,
        store=dist.HashStore() if world.size == 1 else None,
        device_id=device if device.index is not None else None,
    )
    try:
        yield
        # Nobody leaves while another still waits for its part of the last exchange.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process with an exit code.

    One of many goes without the interpreter's own end: threads of gloo outlive their group, and one
    that lets go of a tensor while the interpreter ends aborts the process.
    """
    if find_world().size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def spread(model: nn.Module, acc: accel.Accelerator, world: World, *, shard: bool) -> nn.Module:
    """Return the module to call in training; `model` stays the one to evaluate and to save.

    Args:
        model: on its device, with equal parameters in every process.
        acc: the accelerator that the model is on.
        world: the processes.
        shard: FSDP2, every block's parameters split over the processes, instead of copies (DDP).
    """
    if shard:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(acc.device(world.local_rank).type, (world.size,))
        for block in model.get_submodule("blocks").children():
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model
    return DistributedDataParallel(model) if world.size > 1 else model


def mean(values: Tensor, world: World) -> Tensor:
    """Average `values` over the processes; every process gets the result."""
    if world.size > 1:
        dist.all_reduce(values)
        values = values / world.size
    return values


def gather(value: Any, world: World) -> list[Any]:
    """Return the `value` of every process, in order of rank, in every process."""
    if world.size == 1:
        return [value]
    values: list[Any] = [None] * world.size
    dist.all_gather_object(values, value)
    return values


def random_states(acc: accel.Accelerator) -> dict[str, Tensor]:
    """Return the states of this process's random number generators, host's and device's."""
    return {"host": torch.get_rng_state(), "device": acc.get_rng_state()}


def restore_random_states(acc: accel.Accelerator, states: dict[str, Tensor]) -> None:
    """Put back what `random_states` returned."""
    torch.set_rng_state(states["host"])
    acc.set_rng_state(states["device"])
