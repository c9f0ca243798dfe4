"""Run by torchrun: FSDP2 with distributed checkpoints, saved, loaded and resumed by two processes.

The first argument is a folder. It is left with a checkpoint of each optimizer, and with the whole
weights and states of that moment, as one process would have them.
"""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor

from accel import optim
from accel.optim import Adam8bit, clip_grad_norm_

WHOLE = StateDictOptions(full_state_dict=True)
MASTERS = {"lr": 1e-2, "master_dtype": torch.float32, "rounding": "stochastic", "seed": 5}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "FusedAdam": ("FusedAdam", {"lr": 1e-2, "amsgrad": True}),
    "masters": ("FusedAdam", {**MASTERS, "state_dtype": torch.bfloat16}),
    "CPUAdam": ("CPUAdam", {"lr": 1e-2, "weight_decay": 0.1}),
    "Adam8bit": ("Adam8bit", {"lr": 1e-2}),
    "floats": ("Adam8bit", {"lr": 1e-2}),
    "Lion8bit": ("Lion8bit", {"lr": 1e-3}),
    "FusedLion": ("FusedLion", {"lr": 1e-3}),
    "AdEMAMix": ("AdEMAMix", {"lr": 1e-2}),
    "FusedLamb": ("FusedLamb", {"lr": 1e-2, "max_grad_norm": 0.05}),
    "FusedAdagrad": ("FusedAdagrad", {"lr": 1e-2}),
}
SPLIT, STEPS = 2, 4
TOP = 20.0


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(1)
    # Blocks of 256 that end within shards, a size that two does not divide, and an empty shard.
    layers = nn.Linear(40, 27), nn.Tanh(), nn.Linear(27, 9), nn.Linear(9, 1)
    return nn.Sequential(*layers).to(dtype)


def built(kind: str, *, sharded: bool = True) -> tuple[nn.Module, Any]:
    model = network(torch.bfloat16 if kind == "masters" else torch.float32)
    if sharded:
        fully_shard(model[0])
        fully_shard(model)
    name, options = KINDS[kind]
    optimizer = getattr(optim, name)(model.parameters(), **options)
    if kind == "floats":
        optimizer.register_state_dict_post_hook(Adam8bit.with_float_moments)
    return model, optimizer


def train(model: nn.Module, optimizer: Any, steps: range) -> torch.Tensor:
    for step in steps:
        generator = torch.Generator().manual_seed(step * 2 + dist.get_rank())
        data = torch.randn(16, 40, generator=generator).to(next(model.parameters()).dtype)
        optimizer.zero_grad()
        (model(data) - 1).square().mean().mul(TOP).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    shards: list[Any] = [*model.parameters()]
    return torch.cat([one.to_local().detach().flatten() for one in shards])


def check(kind: str, folder: Path) -> None:
    model, optimizer = built(kind)
    train(model, optimizer, range(SPLIT))
    weights, states = get_state_dict(model, optimizer)
    place = str(folder / kind)
    dcp.save({"model": weights, "optimizer": states}, checkpoint_id=place)
    # On the first process alone, on the host.
    moved = StateDictOptions(full_state_dict=True, cpu_offload=True)
    on_first = get_state_dict(model, optimizer, options=moved)
    if dist.get_rank() == 0:
        torch.save(on_first, f"{place}.pt")
    full = copy.deepcopy(get_state_dict(model, optimizer, options=WHOLE))
    expected = train(model, optimizer, range(SPLIT, STEPS))
    exact = kind != "floats"

    again, later = built(kind)
    weights, states = get_state_dict(again, later)
    dcp.load({"model": weights, "optimizer": states}, checkpoint_id=place)
    set_state_dict(again, later, model_state_dict=weights, optim_state_dict=states)
    compare(train(again, later, range(SPLIT, STEPS)), expected, exact)

    again, later = built(kind)
    train(again, later, range(9, 10))
    set_state_dict(again, later, model_state_dict=full[0], optim_state_dict=full[1], options=WHOLE)
    compare(train(again, later, range(SPLIT, STEPS)), expected, exact)


def compare(found: torch.Tensor, expected: torch.Tensor, exact: bool) -> None:
    difference = float((found - expected).abs().max())
    assert difference == 0.0 if exact else difference < 1e-2, difference


def check_clipping() -> None:
    """The norm is that over all processes, and gradients are those of a whole model."""
    model, plain = built("FusedAdam")[0], built("FusedAdam", sharded=False)[0]
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        gradient = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(ours.numel()))
        theirs.grad = gradient
        given: Any = ours
        ours.grad = distribute_tensor(gradient, given.device_mesh, given.placements)
    found: Any = clip_grad_norm_(model.parameters(), 0.5)
    expected = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    torch.testing.assert_close(found.full_tensor(), expected)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad)  # type: ignore[union-attr]


def check_compiled() -> None:
    """A compiled step of shards and their codes has the bits of one that is not."""
    found = []
    for compiled in (False, True):
        model, optimizer = built("Adam8bit")
        if compiled:
            optimizer.step = torch.compile(optimizer.step, backend="aot_eager")
        found.append(train(model, optimizer, range(2)))
    assert torch.equal(*found)


def check_another_division() -> None:
    """Whole codes of shards are refused by a model that is not divided, in one sentence."""
    model, optimizer = built("Adam8bit")
    train(model, optimizer, range(1))
    state = get_optimizer_state_dict(model, optimizer, options=WHOLE)
    plain, alone = built("Adam8bit", sharded=False)
    names = [name for name, _ in plain.named_parameters()]
    entries = {number: state["state"][name] for number, name in enumerate(names)}
    saved = {**alone.state_dict(), "state": entries}
    try:
        alone.load_state_dict(saved)
    except ValueError as error:
        assert "sharded differently" in str(error) and "with_float_moments" in str(error)
        assert not alone.state
    else:
        raise AssertionError("codes of shards were read as those of a whole tensor")


def main() -> None:
    dist.init_process_group("gloo")
    for kind in KINDS:
        check(kind, Path(sys.argv[1]))
    check_clipping()
    check_compiled()
    check_another_division()
    dist.barrier()
    sys.stdout.write(f"rank {os.environ['RANK']} is done\n")
    sys.stdout.flush()
    # A thread of gloo that lets go of a tensor while the interpreter ends aborts the process.
    os._exit(0)


if __name__ == "__main__":
    main()
