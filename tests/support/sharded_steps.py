"""Run by torchrun: optimizers on DTensor parameters give what they give on whole ones."""

from __future__ import annotations

import copy
import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_module, distribute_tensor
from torch.distributed.tensor.placement_types import Partial, Replicate, Shard

from accel.errors import Unsupported
from accel.optim import Adam8bit, CPUAdagrad, CPUAdam, FusedAdam, FusedLamb, FusedLion, Lion8bit

STEPS = 5
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "FusedAdam": (FusedAdam, {"lr": 1e-2, "weight_decay": 0.1, "amsgrad": True}),
    "FusedAdam clipping": (FusedAdam, {"lr": 1e-2, "max_grad_norm": 0.05}),
    "CPUAdam": (CPUAdam, {"lr": 1e-2}),
    "FusedLion": (FusedLion, {"lr": 1e-2}),
    "CPUAdagrad": (CPUAdagrad, {"lr": 1e-2}),
    "FusedLamb": (FusedLamb, {"lr": 1e-1, "weight_decay": 0.1, "max_grad_norm": 0.05}),
}


def network() -> nn.Module:
    torch.manual_seed(1)
    # Sizes that no number of processes divides, and a tensor smaller than their number.
    return nn.Sequential(nn.Linear(13, 27), nn.Tanh(), nn.Linear(27, 5), nn.Linear(5, 1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    for index in range(start, start + steps):
        data = torch.randn(16, 13, generator=torch.Generator().manual_seed(index))
        optimizer.zero_grad()
        (model(data) - 1).square().mean().backward()
        optimizer.step()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def assert_same(sharded: nn.Module, plain: nn.Module) -> None:
    for ours, theirs in zip(sharded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(whole(ours.detach()), theirs.detach(), rtol=1e-5, atol=1e-6)


def assert_same_norm(found: Any, expected: Any) -> None:
    """Assert that every process has the norm of the whole."""
    if found.defaults["max_grad_norm"] and not found.clips_groups:
        assert not isinstance(found.grad_norm, DTensor)
        torch.testing.assert_close(found.grad_norm, expected.grad_norm, rtol=1e-5, atol=0)


def check_clipping_of_whole_and_sharded() -> None:
    """Parameters that are not sharded count once, and a compiled step clips as well."""
    plain, sharded = network(), network()
    fully_shard(sharded[0])
    options = {"lr": 1e-2, "max_grad_norm": 0.05}
    expected, found = (
        FusedAdam(plain.parameters(), **options),
        FusedAdam(sharded.parameters(), **options),
    )
    train(plain, expected, 2)
    train(sharded, found, 2)
    found.step = torch.compile(found.step, backend="eager")  # type: ignore[method-assign]
    train(plain, expected, 2, start=2)
    train(sharded, found, 2, start=2)
    assert_same(sharded, plain)
    assert_same_norm(found, expected)
    weight = sharded[0].weight
    local, mesh, size = weight.grad.to_local(), weight.device_mesh, weight.shape
    weight.grad = DTensor.from_local(
        local, mesh, [Partial()], run_check=False, shape=size, stride=weight.stride()
    )
    try:
        found.step()
    except Unsupported as error:
        assert "max_grad_norm" in str(error)
    else:
        raise AssertionError("A gradient that is not added up yet was clipped.")


def check_fsdp(name: str) -> None:
    cls, options = KINDS[name]
    plain, sharded = network(), network()
    for layer in sharded:
        fully_shard(layer)
    fully_shard(sharded)
    expected, found = cls(plain.parameters(), **options), cls(sharded.parameters(), **options)
    train(plain, expected, STEPS)
    train(sharded, found, STEPS)
    assert any(isinstance(param, DTensor) for param in sharded.parameters())
    assert_same(sharded, plain)
    assert_same_norm(found, expected)
    if name == "FusedLamb":
        assert found.get_lamb_coeffs() == expected.get_lamb_coeffs() or all(
            abs(a - b) < 1e-4 * b
            for a, b in zip(found.get_lamb_coeffs(), expected.get_lamb_coeffs(), strict=True)
        )

    again = cls(sharded.parameters(), **options)
    again.load_state_dict(copy.deepcopy(found.state_dict()))
    train(sharded, again, STEPS, start=STEPS)
    train(plain, expected, STEPS, start=STEPS)
    assert_same(sharded, plain)


def check_mesh_of_two_dimensions(name: str) -> None:
    """Tensor-parallel style: sharded over one dimension, replicated over the other."""
    mesh = init_device_mesh("cpu", (1, dist.get_world_size()), mesh_dim_names=("dp", "tp"))

    def shard(_: str, module: nn.Module, mesh: Any) -> None:
        for key, param in module.named_parameters(recurse=False):
            placed = distribute_tensor(param.detach(), mesh, [Replicate(), Shard(0)])
            module.register_parameter(key, nn.Parameter(placed))

    cls, options = KINDS[name]
    plain, sharded = network(), network()
    distribute_module(sharded, mesh, shard)
    expected, found = cls(plain.parameters(), **options), cls(sharded.parameters(), **options)
    for index in range(STEPS):
        for ours, theirs in zip(sharded.parameters(), plain.parameters(), strict=True):
            theirs.grad = torch.randn(
                theirs.shape, generator=torch.Generator().manual_seed(index + theirs.numel())
            )
            ours.grad = distribute_tensor(theirs.grad, mesh, [Replicate(), Shard(0)])
        expected.step()
        found.step()
    assert_same(sharded, plain)
    assert_same_norm(found, expected)


def check_8bit(cls: Any, model: nn.Module) -> None:
    """Each process encodes its shard as a plain tensor of those values, and states are whole."""
    params: list[Any] = [*model.parameters()]
    plain = [nn.Parameter(param.to_local().detach().clone()) for param in params]
    optimizer, expected = cls(params, lr=1e-2), cls(plain, lr=1e-2)
    for index in range(STEPS):
        for ours, theirs in zip(params, plain, strict=True):
            generator = torch.Generator().manual_seed(index + ours.numel())
            gradient = torch.randn(ours.shape, generator=generator)
            ours.grad = distribute_tensor(gradient, ours.device_mesh, ours.placements)
            theirs.grad = ours.grad.to_local().clone()
        optimizer.step()
        expected.step()
    decoded = optimizer.float_state_dict()["state"]
    for number, (ours, theirs) in enumerate(zip(params, plain, strict=True)):
        assert torch.equal(ours.to_local(), theirs)
        found, wanted = optimizer.state[ours], expected.state[theirs]
        for key in cls.states:
            assert found[key].shape == decoded[number][key].shape == ours.shape
            assert torch.equal(found[key].to_local(), wanted[key])
            own = found[f"{key}_scale"].to_local().view(-1)
            assert torch.equal(own[: wanted[f"{key}_scale"].numel()], wanted[f"{key}_scale"])


def sharded_by_columns() -> nn.Module:
    model = network()
    mesh = init_device_mesh("cpu", (1, dist.get_world_size()))
    for module in model:
        if isinstance(module, nn.Linear):
            weight = distribute_tensor(module.weight.detach(), mesh, [Replicate(), Shard(1)])
            module.weight = nn.Parameter(weight)
            bias = distribute_tensor(module.bias.detach(), mesh, [Shard(0), Replicate()])
            module.bias = nn.Parameter(bias)
    return model


def sharded_by_rows() -> nn.Module:
    model = network()
    fully_shard(model)
    return model


def main() -> None:
    dist.init_process_group("gloo")
    for name in KINDS:
        check_fsdp(name)
        check_mesh_of_two_dimensions(name)
    for cls in (Adam8bit, Lion8bit):
        check_8bit(cls, sharded_by_rows())
        check_8bit(cls, sharded_by_columns())
    check_clipping_of_whole_and_sharded()
    # Nobody leaves while another still waits for its part of the last exchange.
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.write(f"rank {os.environ['RANK']} is done\n")
    sys.stdout.flush()
    # A thread of gloo that lets go of a tensor while the interpreter ends aborts the process.
    os._exit(0)


if __name__ == "__main__":
    main()
