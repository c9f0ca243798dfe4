"""PEFT: our optimizers step an adapter and nothing else; adapter and states resume exactly."""

from __future__ import annotations

import warnings

import pytest
import torch
from snippets import need, run

import accel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = need("peft")
    transformers = need("transformers")
    need("accelerate")

STEPS = range(4)
pytestmark = pytest.mark.filterwarnings("ignore")
OPTIMIZERS = ("FusedAdam", "CPUAdam", "Adam8bit", "FusedLion")


def base(dtype=torch.float32):
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=64, n_positions=12, n_embd=16, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config).to(dtype)


def adapted(dtype=torch.float32):
    lora = peft.LoraConfig(r=4, lora_dropout=0.0, target_modules=["c_attn"], task_type="CAUSAL_LM")
    return peft.get_peft_model(base(dtype), lora, autocast_adapter_dtype=False)


def adapter(model):
    return [one for one in model.parameters() if one.requires_grad]


def train(model, optimizer, steps):
    for step in steps:
        torch.manual_seed(step)  # Of the tokens and of dropout.
        tokens = torch.randint(0, 64, (8, 12))
        model(input_ids=tokens, labels=tokens).loss.backward()
        accel.optim.clip_grad_norm_(adapter(model), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([one.detach().flatten() for one in adapter(model)])


@pytest.mark.parametrize("every", [False, True], ids=["adapter", "all parameters"])
def test_only_the_adapter_is_stepped(every):
    model = adapted()
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    optimizer = accel.optim.FusedAdam(
        model.parameters() if every else adapter(model), lr=1e-2, weight_decay=0.1
    )
    train(model, optimizer, STEPS[:2])
    moved = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert set(map(id, optimizer.state)) == set(map(id, adapter(model)))


def test_it_trains_as_adamw():
    found = []
    for make in (accel.optim.FusedAdam, torch.optim.AdamW):
        model = adapted()
        found.append(train(model, make(adapter(model), lr=1e-2, weight_decay=0.1), STEPS))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_differs_by_nothing(tmp_path, name, dtype):
    make = getattr(accel.optim, name)
    options = {"lr": 1e-2, "master_dtype": None if dtype == torch.float32 else torch.float32}
    whole = adapted(dtype)
    optimizer = make(adapter(whole), **options)
    half = train(whole, optimizer, STEPS[:2])
    whole.save_pretrained(tmp_path)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    expected = train(whole, optimizer, STEPS[2:])
    rest = peft.PeftModel.from_pretrained(
        base(dtype), tmp_path, is_trainable=True, autocast_adapter_dtype=False
    )
    later = make(adapter(rest), **options)
    later.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert float((train(rest, later, STEPS[2:]) - expected).abs().max()) == 0.0
    assert not torch.equal(half, expected)


def test_an_adapter_that_is_not_trained_leaves_nothing_to_step(tmp_path):
    adapted().save_pretrained(tmp_path)
    frozen = peft.PeftModel.from_pretrained(base(), tmp_path)
    with pytest.raises(ValueError, match="empty parameter list"):
        accel.optim.FusedAdam(adapter(frozen))


def test_the_page_runs(tmp_path):
    assert "resumed, difference 0.0" in run("peft.md", tmp_path)
