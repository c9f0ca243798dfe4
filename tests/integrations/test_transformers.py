"""Hugging Face transformers: its Trainer with our optimizers, and resuming."""

from __future__ import annotations

import warnings

import pytest
import torch
from snippets import need, run

import accel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = need("transformers")
    need("accelerate")


pytestmark = pytest.mark.filterwarnings("ignore")


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 48

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        tokens = torch.randint(0, 64, (12,), generator=generator)
        return {"input_ids": tokens, "labels": tokens}


def trainer(folder, make, **options):
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=64, n_positions=12, n_embd=16, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    optimizer = make(model.parameters(), lr=1e-2, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 6)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        max_steps=6,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=3,
        **options,
    )
    return transformers.Trainer(
        model=model, args=arguments, train_dataset=Rows(), optimizers=(optimizer, schedule)
    )


def weights(run):
    return torch.cat([one.detach().flatten() for one in run.model.parameters()])


@pytest.mark.parametrize("options", [{}, {"bf16": True}, {"max_grad_norm": 0.01}], ids=str)
def test_it_trains_as_adamw(tmp_path, options):
    found = []
    for make in (accel.optim.FusedAdam, torch.optim.AdamW):
        one = trainer(tmp_path / make.__name__, make, **options)
        before = weights(one)
        one.train()
        assert (weights(one) - before).abs().max() > 1e-2
        found.append(weights(one))
    # A last bit of float32 may round to another bfloat16, which Adam's quotient makes larger.
    bound = 1e-4 if "bf16" in options else 1e-5
    torch.testing.assert_close(*found, rtol=1e-4, atol=bound)


@pytest.mark.parametrize("name", ["FusedAdam", "CPUAdam", "Adam8bit"])
def test_a_resumed_run_differs_by_nothing(tmp_path, name):
    make = getattr(accel.optim, name)
    whole = trainer(tmp_path, make)
    whole.train()
    rest = trainer(tmp_path, make)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert rest.state.global_step == 6
    assert float((weights(rest) - weights(whole)).abs().max()) == 0.0


def test_the_page_runs(tmp_path):
    assert "trained 4 steps" in run("transformers.md", tmp_path)
