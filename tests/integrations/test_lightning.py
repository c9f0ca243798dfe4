"""Lightning's Trainer with the accelerator and strategy that are registered as ``accel``."""

from __future__ import annotations

import warnings

import pytest
import torch
from snippets import need, run

import accel
from accel.cpu import CPUAccelerator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    need("lightning")
    import lightning.pytorch as pl

    import accel.integrations.lightning


pytestmark = [
    # Lightning warns of few workers, of missing loggers and of scalers for CUDA.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("on_cpu"),
]
PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
CLIPS = {
    "none": {},
    "value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "norm": {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "norm"},
}


@pytest.fixture
def on_cpu():
    with accel.use_accelerator("cpu"):
        yield


class Model(pl.LightningModule):
    def __init__(self, optimizer=torch.optim.AdamW):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 4)
        )
        self.optimizer = optimizer
        self.dtypes, self.norms = set(), []

    def training_step(self, batch, index):
        given, wanted = batch
        found = self.net(given)
        self.dtypes.add(found.dtype)
        return torch.nn.functional.mse_loss(found.float(), wanted)

    def on_before_zero_grad(self, optimizer):
        gradients = [one.grad for one in self.parameters() if one.grad is not None]
        if gradients:
            self.norms.append(float(torch.stack([one.norm() for one in gradients]).norm()))

    def configure_optimizers(self):
        return self.optimizer(self.parameters(), lr=1e-2, weight_decay=0.1)


def data(count=48):
    generator = torch.Generator().manual_seed(1)
    given = torch.randn(count, 16, generator=generator)
    wanted = torch.randn(count, 4, generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(given, wanted), batch_size=8)


def trainer(folder, **options):
    silent = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return pl.Trainer(
        **{"accelerator": "accel", "max_steps": 6, "default_root_dir": folder, **silent, **options}
    )


def weights(model):
    return torch.cat([one.detach().flatten() for one in model.parameters()])


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_and_clipping_trains_as_adamw(tmp_path, precision, clip):
    runs = {}
    for optimizer in (torch.optim.AdamW, accel.optim.FusedAdam):
        model = Model(optimizer)
        before = weights(model)
        trainer(tmp_path, precision=precision, **CLIPS[clip]).fit(model, data())
        assert model.dtypes == {PRECISIONS[precision]}
        runs[optimizer] = weights(model)
        assert (runs[optimizer] - before).abs().max() > 0.01
        if clip == "norm":
            assert max(model.norms) <= 0.05 * 1.001
    torch.testing.assert_close(*runs.values(), rtol=1e-5, atol=1e-6)


def test_it_trains_as_lightnings_own_accelerator(tmp_path):
    results = []
    for accelerator in ("cpu", "accel"):
        model = Model()
        trainer(tmp_path, accelerator=accelerator).fit(model, data())
        results.append(weights(model))
    assert torch.equal(*results)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_resumed_run_differs_by_nothing(tmp_path, precision):
    # Cut between epochs: inside one, Lightning resumes with other batches, whatever the optimizer.
    whole = Model(accel.optim.FusedAdam)
    trainer(tmp_path, precision=precision, max_steps=-1, max_epochs=2).fit(whole, data(24))
    half = Model(accel.optim.FusedAdam)
    first = trainer(tmp_path, precision=precision, max_steps=-1, max_epochs=1)
    first.fit(half, data(24))
    first.save_checkpoint(tmp_path / "half.ckpt")
    rest = Model(accel.optim.FusedAdam)
    torch.nn.init.zeros_(rest.net[0].weight)
    trainer(tmp_path, precision=precision, max_steps=-1, max_epochs=2).fit(
        rest, data(24), ckpt_path=tmp_path / "half.ckpt"
    )
    assert float((weights(rest) - weights(whole)).abs().max()) == 0.0


def test_the_strategy_by_name_and_the_device_in_use(tmp_path):
    model = Model()
    fitter = trainer(tmp_path, strategy="accel", max_steps=1)
    fitter.fit(model, data())
    assert isinstance(fitter.strategy, accel.integrations.lightning.AccelStrategy)
    assert fitter.strategy.root_device == accel.get_accelerator().device()
    assert fitter.accelerator.get_device_stats("cpu")["allocated_bytes.all.current"] > 0


class Second(CPUAccelerator):
    """A device of another type, as a backend on a machine with one would be."""

    name = "second"
    device_type = "meta"

    def device_count(self):
        return 2

    def device_name(self, device_index=None):
        return "meta" if device_index is None else f"meta:{device_index}"


def test_the_device_is_the_accelerators(tmp_path):
    with accel.use_accelerator(Second()):
        fitter = trainer(tmp_path, precision="bf16-mixed", devices=[1])
        fitter.accelerator.setup(fitter)
        assert fitter.strategy.root_device == torch.device("meta:1")
        assert fitter.precision_plugin.device == "meta"
        with pytest.raises(ValueError, match=r"second has 2 device\(s\), so there is no 2"):
            trainer(tmp_path, devices=[2])


def test_the_page_runs(tmp_path):
    assert "trained on cpu" in run("lightning.md", tmp_path)
