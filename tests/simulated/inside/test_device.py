"""The simulated device itself, under either name; run in a process of its own."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from simulator.library import late
from torch import distributed as dist
from torch.distributed import _functional_collectives as collectives

NAME = os.environ["SIMULATED"]
import_module({"sim": "torch_sim", "hpu": "habana_frameworks.torch"}[NAME])
DEVICE = torch.device(NAME)


def test_torch_knows_two_devices() -> None:
    assert torch.accelerator.current_accelerator() == DEVICE
    assert torch.accelerator.device_count() == 2
    there = torch.arange(3.0, device=f"{NAME}:1")
    assert (there + 1).device.index == 1
    assert (there.to(f"{NAME}:0") * 2).tolist() == [0, 2, 4]
    with torch.accelerator.device_index(1):
        assert torch.ones(1, device=NAME).device.index == 1


def test_work_is_late_and_in_order() -> None:
    stream = torch.Stream(DEVICE)
    with late(0.02), stream:
        made = torch.ones(8, device=NAME) * 3
        assert not stream.query()
        assert (made + 1).tolist() == [4] * 8
    stream.synchronize()
    assert stream.query()


def test_other_streams_see_nothing_before_they_wait() -> None:
    maker, user = torch.Stream(DEVICE), torch.Stream(DEVICE)
    with late(0.05, maker):
        with maker:
            made = torch.ones(8, device=NAME) * 3
        with user:
            early = made.cpu()
            user.wait_stream(maker)
            seen = made.cpu()
    assert not (early == 3).any()
    assert (seen == 3).all()


def test_blocking_copies_wait_and_others_do_not() -> None:
    pinned = torch.zeros(8).pin_memory()
    source = torch.full((8,), 2.0, device=NAME)
    with late(0.05):
        assert torch.ones(8).to(NAME).cpu().sum() == 8
        pinned.copy_(source, non_blocking=True)
        assert pinned.sum() == 0
        torch.accelerator.synchronize()
        assert pinned.sum() == 16
        changed = torch.ones(8)
        there = changed.to(NAME, non_blocking=True)
        changed.zero_()
        assert there.sum() == 8


def test_pinned_memory_is_read_late() -> None:
    pinned = torch.ones(8).pin_memory()
    assert pinned.is_pinned() and not torch.ones(8).is_pinned()
    with late(0.05):
        there = pinned.to(NAME, non_blocking=True)
        pinned.fill_(5)
        assert there.sum() == 40


def test_memory_is_counted_and_reused() -> None:
    torch.accelerator.synchronize()
    torch.accelerator.empty_cache()
    before = torch.accelerator.memory_allocated()
    kept = torch.empty(1 << 18, device=NAME)
    assert torch.accelerator.memory_allocated() - before == 1 << 20
    pointer = kept.data_ptr()
    del kept
    assert torch.accelerator.memory_allocated() == before
    assert torch.empty(1 << 18, device=NAME).data_ptr() == pointer
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        torch.empty(1 << 40, device=NAME)


def test_fresh_memory_shows() -> None:
    assert torch.empty(1 << 12, device=NAME).isnan().all()


def test_random_numbers_are_the_devices_own() -> None:
    generator = torch.Generator(DEVICE).manual_seed(5)
    other = torch.Generator(DEVICE)
    other.set_state(generator.get_state())
    host = torch.get_rng_state()
    first = torch.randn(4, device=NAME, generator=generator)
    assert torch.equal(first.cpu(), torch.randn(4, device=NAME, generator=other).cpu())
    torch.nn.functional.dropout(torch.ones(4, device=NAME))
    assert torch.equal(torch.get_rng_state(), host)


def test_files_bring_tensors_back(tmp_path: Path) -> None:
    file = tmp_path / "saved.pt"
    model = torch.nn.Linear(3, 2).to(f"{NAME}:1")
    torch.save(model.state_dict(), file)
    loaded = torch.load(file)
    assert loaded["weight"].device == torch.device(NAME, 1)
    assert torch.equal(loaded["weight"].cpu(), model.weight.detach().cpu())
    assert torch.load(file, map_location="cpu")["bias"].device.type == "cpu"
    assert torch.equal(copy.deepcopy(model).bias.cpu(), model.bias.cpu())


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_optimizers_match_the_cpu(options: dict[str, bool]) -> None:
    results = []
    for device in ("cpu", NAME):
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(7, 5).to(device))
        optimizer = torch.optim.AdamW([parameter], lr=0.1, **options)
        for step in range(3):
            parameter.grad = torch.full_like(parameter, step + 1.0)
            optimizer.step()
        results.append(parameter.detach().cpu())
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles(backend: str) -> None:
    given = torch.rand(5, device=NAME, requires_grad=True)

    @torch.compile(backend=backend, fullgraph=True)
    def function(x: torch.Tensor) -> torch.Tensor:
        return (x * 2).sin().sum()

    function(given).backward()
    torch.testing.assert_close(given.grad, 2 * (given.detach() * 2).cos())


def test_views_share_and_lazy_bits_are_kept() -> None:
    base = torch.zeros(2, 6, device=NAME)
    base.view(3, 4).t()[1:3].unfold(0, 2, 1).add_(1)
    assert base.sum() == 6
    number = torch.view_as_complex(torch.tensor([[1.0, 2.0]], device=NAME))
    assert (number.conj() * number).tolist() == [5]
    assert torch.view_as_real(number.conj().resolve_conj()).tolist() == [[1, -2]]
    grown = torch.arange(3, device=NAME)
    assert grown.resize_(5)[:3].tolist() == [0, 1, 2]
    if NAME == "sim":  # Torch resizes storages of no other kind but its own.
        grown.untyped_storage().resize_(80)
        assert grown[:3].tolist() == [0, 1, 2]


def test_autocast_lowers_products() -> None:
    model = torch.nn.Linear(4, 4).to(NAME)
    with torch.autocast(NAME, torch.bfloat16):
        product = model(torch.rand(2, 4, device=NAME))
    assert product.dtype == torch.bfloat16 and product.float().isfinite().all()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_after_use_is_refused() -> None:
    torch.ones(1, device=NAME).sum().item()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            torch.ones(1, device=NAME).sum()
            answer = "worked"
        except RuntimeError as error:
            answer = str(error).partition("\n")[0]
        os.write(writer, answer.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        assert "was forked" in answers.read()


@pytest.fixture
def alone() -> Iterator[dist.ProcessGroup]:
    """A process group of this process alone."""
    if NAME == "hpu":
        import_module("habana_frameworks.torch.distributed.hccl")
    backend = {"sim": "simccl", "hpu": "hccl"}[NAME]
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


COLLECTIVES = {
    "gather": lambda given, group: collectives.all_gather_single(given, 0, group),
    "scatter": lambda given, group: collectives.reduce_scatter_single(given, "sum", 0, group),
    "gathers": lambda given, group: collectives.all_gather_single_coalesced([given], group)[0],
    "scatters": lambda given, group: collectives.reduce_scatter_single_coalesced(
        [given], "sum", [0], group
    )[0],
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives_wait_for_late_memory(alone: dist.ProcessGroup, name: str) -> None:
    with late(0.03):
        given = torch.full((8,), 2.0, device=NAME) * 3
        found = COLLECTIVES[name](given, alone)
    assert found.tolist() == [6] * 8
