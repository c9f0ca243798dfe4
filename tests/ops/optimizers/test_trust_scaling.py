"""Who unscales gradients: the optimizer where it says so (``fused=True``), else the scaler."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from family_cases import OPTIMIZERS as ALL
from torch import nn

from accel.optim import (
    Adam8bit,
    CPUAdam,
    FusedAdam,
    FusedLamb,
    FusedLion,
)

CHOICES = (None, False, True)


def clip_as_lightning_does(optimizer: torch.optim.Optimizer, limit: float) -> None:
    """Clip; as Lightning's mixed precision refuses who unscales by himself."""
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        raise RuntimeError(f"{type(optimizer).__qualname__} does not allow for gradient clipping")
    params = [param for group in optimizer.param_groups for param in group["params"]]
    nn.utils.clip_grad_norm_(params, limit)


@pytest.mark.parametrize("cls", [*ALL, torch.optim.AdamW])
@pytest.mark.parametrize("fused", CHOICES)
def test_it_says_that_it_takes_over_only_where_it_does(cls: Any, fused: bool | None) -> None:
    param = nn.Parameter(torch.ones(4))
    param.grad = torch.full((4,), 100.0)
    optimizer = cls([param], fused=fused)
    assert bool(getattr(optimizer, "_step_supports_amp_scaling", False)) == bool(fused)
    if fused:
        with pytest.raises(RuntimeError, match="gradient clipping"):
            clip_as_lightning_does(optimizer, 1.0)
    else:
        clip_as_lightning_does(optimizer, 1.0)
        assert param.grad.norm() < 1.01


def test_a_loaded_state_does_not_change_who_unscales() -> None:
    param = nn.Parameter(torch.ones(4))
    for ours, theirs in ((None, True), (True, None)):
        optimizer = FusedAdam([param], fused=ours)
        optimizer.load_state_dict(torch.optim.AdamW([param], fused=theirs).state_dict())
        assert optimizer._step_supports_amp_scaling == bool(ours)


def scaled_run(
    cls: Any, fused: bool | None, *, unscale: bool, overflow: bool = False
) -> tuple[torch.Tensor, float, float]:
    """Return parameter, scale and steps after three steps of mixed precision with clipping."""
    param = nn.Parameter(torch.linspace(0.5, 2.0, 600))
    options = {"seed": 1} if cls is not torch.optim.AdamW else {"weight_decay": 0.0}
    optimizer = cls([param], lr=0.1, fused=fused, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for index in range(3):
        optimizer.zero_grad()
        loss = (param * (index + 1)).square().sum()
        if overflow and index == 1:
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        if unscale:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_([param], 0.5)
        scaler.step(optimizer)
        scaler.update()
    steps = optimizer.state[param]["step"].item()
    return param.detach(), scaler.get_scale(), steps


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("overflow", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_scaler_clipping_and_step_in_every_spelling(
    cls: Any, overflow: bool, unscale: bool
) -> None:
    results = [scaled_run(cls, fused, unscale=unscale, overflow=overflow) for fused in CHOICES]
    for found, *numbers in results[1:]:
        torch.testing.assert_close(found, results[0][0])
        assert numbers == [*results[0][1:]]
    assert results[0][1:] == ((512.0, 2.0) if overflow else (1024.0, 3.0))
    if cls in (FusedAdam, CPUAdam):
        expected, *_ = scaled_run(torch.optim.AdamW, True, unscale=unscale, overflow=overflow)
        torch.testing.assert_close(results[0][0], expected)


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "bf16-true"])
@pytest.mark.filterwarnings("ignore")
def test_lightning_clips(precision: str, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, cls: Any, fused: bool | None) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.made = (cls, fused)

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            return self.layer(batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            cls, fused = self.made
            made: torch.optim.Optimizer = cls(self.parameters(), lr=0.1, fused=fused)
            return made

    data = torch.utils.data.DataLoader(torch.randn(8, 3), batch_size=2)
    for cls in (FusedAdam, FusedLion, Adam8bit, FusedLamb):
        for fused in (None, False):
            trainer = lightning.Trainer(
                accelerator="cpu", precision=precision, max_epochs=1, gradient_clip_val=1.0,
                logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, default_root_dir=tmp_path,
            )  # fmt: skip
            trainer.fit(Module(cls, fused), data)
            assert trainer.global_step == 4
