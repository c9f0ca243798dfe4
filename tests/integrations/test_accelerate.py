"""Hugging Face accelerate: prepare, clip, save and load with our optimizers."""

from __future__ import annotations

import warnings

import pytest
import torch
from snippets import need, run

import accel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    accelerate = need("accelerate")
    from accelerate.state import AcceleratorState, GradientState, PartialState


pytestmark = pytest.mark.filterwarnings("ignore")
OPTIMIZERS = {
    "FusedAdam": lambda given: accel.optim.FusedAdam(given, lr=1e-2, weight_decay=0.1),
    "FusedLion": lambda given: accel.optim.FusedLion(given, lr=1e-3),
    "CPUAdam": lambda given: accel.optim.CPUAdam(given, lr=1e-2),
    "Adam8bit": lambda given: accel.optim.Adam8bit(given, lr=1e-2),
}


@pytest.fixture(autouse=True)
def state():
    """accelerate keeps its choice for the life of a process."""
    for one in (AcceleratorState, GradientState, PartialState):
        one._reset_state()
    yield
    for one in (AcceleratorState, GradientState, PartialState):
        one._reset_state()


def prepared(make, precision="no"):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 4))
    optimizer = make(model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    driver = accelerate.Accelerator(cpu=True, mixed_precision=precision)
    return (driver, *driver.prepare(model, optimizer, schedule))


def train(driver, model, optimizer, schedule, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        given = torch.randn(8, 16, generator=generator)
        with driver.accumulate(model):
            found = model(given)
            driver.backward((found.float() - given[:, :4]).square().mean())
            driver.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return torch.cat([one.detach().flatten() for one in model.parameters()])


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_it_trains_as_adamw(precision):
    adamw = lambda given: torch.optim.AdamW(given, lr=1e-2, weight_decay=0.1)  # noqa: E731
    found = [
        train(*prepared(make, precision), range(6)) for make in (OPTIMIZERS["FusedAdam"], adamw)
    ]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_differs_by_nothing(tmp_path, name):
    make = OPTIMIZERS[name]
    whole = train(*prepared(make), range(6))
    first = prepared(make)
    half = train(*first, range(3))
    first[0].save_state(str(tmp_path))
    assert not torch.equal(half, whole)
    rest = prepared(make)
    train(*rest, range(20, 22))
    rest[0].load_state(str(tmp_path))
    assert float((train(*rest, range(3, 6)) - whole).abs().max()) == 0.0


def test_the_page_runs(tmp_path):
    assert "resumed at step 4" in run("accelerate.md", tmp_path)
