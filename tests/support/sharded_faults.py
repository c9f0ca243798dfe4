"""Run by torchrun: full state dicts of sharded optimizers, and what FSDP1 cannot be stepped by."""

from __future__ import annotations

import copy
import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from accel.errors import Unsupported
from accel.optim import (
    Adam8bit,
    CPUAdam,
    FusedAdagrad,
    FusedAdam,
    FusedLamb,
    FusedLion,
    Lion8bit,
)

SHARDED: tuple[Any, ...] = (
    Adam8bit, CPUAdam, FusedAdagrad, FusedAdam, FusedLamb, FusedLion, Lion8bit
)  # fmt: skip
CODED = (Adam8bit, Lion8bit)
POLICY: dict[str, Any] = {
    "state_dtype": torch.bfloat16,
    "master_dtype": torch.float32,
    "rounding": "stochastic",
}


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(13, 27), nn.Tanh(), nn.Linear(27, 5))


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(4, 13)).square().mean().backward()
    optimizer.step()


def check_full_state_dict(cls: Any) -> None:
    model, other = network(), network()
    for each in (model, other):
        fully_shard(each)
    policy = {**POLICY}
    if cls in CODED:
        del policy["state_dtype"]
    optimizer, later = cls(model.parameters(), **policy), cls(other.parameters(), lr=0.5, **policy)
    if cls not in CODED:
        optimizer.param_groups[0]["state_dtype"] = torch.bfloat16
    train(model, optimizer)
    whole = StateDictOptions(full_state_dict=True)
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=whole))
    set_optimizer_state_dict(other, later, state, options=whole)
    other.load_state_dict(model.state_dict())
    train(model, optimizer)
    train(other, later)
    for left, right in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(left.to_local(), right.to_local()), cls  # type: ignore[operator]


def check_random_bits(cls: Any) -> None:
    """A shard draws the bits of its parameter's place in the group, as a plain tensor does."""
    model = network()
    fully_shard(model)
    train(model, torch.optim.SGD(model.parameters(), lr=0.0))
    params: list[Any] = [*model.parameters()]
    params[0].grad = None
    plain = [nn.Parameter(param.to_local().detach().clone()) for param in params]
    for param, own in zip(params, plain, strict=True):
        own.grad = None if param.grad is None else param.grad.to_local().clone()
    for each in (params, plain):
        optimizer = cls(each, state_dtype=torch.bfloat16, rounding="stochastic")
        optimizer.step()
        states = [optimizer.state[param]["exp_avg"] for param in each[1:]]
        if each is params:
            sharded = [state.to_local() for state in states]
    assert all(map(torch.equal, sharded, states)), cls


def check_flat_parameters(cls: Any, original: bool, early: bool) -> None:
    """Elementwise optimizers step flat parameters; the others say at once that they cannot."""
    plain = network()
    optimizer = cls(plain.parameters()) if early else None
    model = FullyShardedDataParallel(plain, use_orig_params=original, device_id=torch.device("cpu"))
    try:
        optimizer = optimizer or cls(model.parameters())
        train(model, optimizer)
    except Unsupported as error:
        assert cls in (*CODED, FusedLamb), cls
        assert cls.__name__ in str(error) and "FullyShardedDataParallel" in str(error)
        assert optimizer is None or not optimizer.state
    else:
        assert cls not in (*CODED, FusedLamb), cls
        FullyShardedDataParallel.optim_state_dict(model, optimizer)


def main() -> None:
    dist.init_process_group("gloo")
    for cls in SHARDED:
        check_full_state_dict(cls)
    for cls in (CPUAdam, FusedAdam, FusedLamb, FusedLion):
        check_random_bits(cls)
    for cls, original, early in (
        (FusedAdam, True, False),
        (Adam8bit, False, False),
        (Adam8bit, True, False),
        (Adam8bit, True, True),
        (Lion8bit, True, False),
        (FusedLamb, False, False),
        (FusedLamb, True, True),
    ):
        check_flat_parameters(cls, original, early)
    dist.barrier()
    sys.stdout.write(f"rank {os.environ['RANK']} is done\n")
    sys.stdout.flush()
    # A thread of gloo that lets go of a tensor while the interpreter ends aborts the process.
    os._exit(0)


if __name__ == "__main__":
    main()
