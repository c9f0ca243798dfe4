"""The state of a training run and the steps that change it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import checkpoint
import data
import torch
from model import ByteTransformer, Shape
from processes import (
    World,
    gather,
    random_states,
    restore_random_states,
    spread,
)
from settings import Settings
from storage import RunError
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

import accel

_EVALUATED_WINDOWS = 256
_CONTENT = (
    *("settings", "processes", "sharded", "text", "step", "train", "held_out", "random"),
    *("model", "optimizer"),
)


@dataclass
class Run:
    """A run: what is fixed, what learns, and what has been seen so far.

    Attributes:
        acc: the accelerator.
        world: the processes.
        settings: what decides the run.
        text: the bytes to learn from and to be tested on.
        model: the network, to evaluate and to save.
        trained: the same network as it is called in training.
        optimizer: over its parameters.
        sharded: whether the parameters are split over the processes.
        windows: the held-out bytes that are evaluated.
        step: how many steps are done.
        train: loss of each of them, in bits per byte, averaged over the processes.
        held_out: pairs of step and held-out loss, in bits per byte.
    """

    acc: accel.Accelerator
    world: World
    settings: Settings
    text: data.Text
    model: nn.Module
    trained: nn.Module
    optimizer: Optimizer
    sharded: bool
    windows: Tensor
    step: int = 0
    train: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)

    def loss(self, network: nn.Module, windows: Tensor) -> Tensor:
        """Return the mean loss, in nats per byte, of predicting every byte from those before."""
        windows = windows.to(self.acc.device_name(self.world.local_rank))
        with torch.autocast(self.acc.device_type, torch.bfloat16, enabled=self.settings.bf16):
            logits = network(windows[:, :-1])
            return functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())

    def advance(self) -> Tensor:
        """Do one step and return this process's loss, in nats per byte."""
        draw = self.step * self.world.size + self.world.rank
        windows = data.training_batch(
            self.text.train,
            self.settings.batch,
            self.settings.context,
            seed=self.settings.seed,
            draw=draw,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate(self.step)
        loss = self.loss(self.trained, windows)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return the held-out loss, in bits per byte; every process computes the same."""
        self.model.eval()
        total = 0.0
        for windows in self.windows.split(64):
            total += self.loss(self.model, windows).item() * len(windows)
        self.model.train()
        return total / len(self.windows) / math.log(2)

    def content(self) -> dict[str, Any]:
        """Return all that another process needs to go on exactly here."""
        return {
            "settings": asdict(self.settings),
            "processes": self.world.size,
            "sharded": self.sharded,
            "text": self.text.digest,
            "step": self.step,
            "train": self.train,
            "held_out": self.held_out,
            "random": gather(random_states(self.acc), self.world),
            **checkpoint.states(self.model, self.optimizer, sharded=self.sharded),
        }

    def resume(self, content: dict[str, Any]) -> None:
        """Go on from what `content` returned, here or in another process.

        Raises:
            RunError: it was saved by a run that this one is not the rest of.
        """
        lacking = [name for name in _CONTENT if name not in content]
        if lacking:
            raise RunError(
                f"The checkpoint lacks {lacking[0]!r}: another program or version wrote it. "
                "Start without --resume."
            )
        for what, saved, here in (
            ("number of processes", content["processes"], self.world.size),
            ("use of --fsdp", content["sharded"], self.sharded),
            ("text (the standard library)", content["text"][:12], self.text.digest[:12]),
        ):
            if saved != here:
                raise RunError(
                    f"The checkpoint's {what} is {saved}, this run's is {here}, so that it cannot "
                    "go on as it was. Make them equal, or start without --resume."
                )
        try:
            checkpoint.restore(self.model, self.optimizer, content, sharded=self.sharded)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RunError(
                f"The checkpoint's states do not fit this run: {reason} Resume with the optimizer "
                "and the version that wrote it, or start without --resume."
            ) from error
        restore_random_states(self.acc, content["random"][self.world.rank])
        self.step, self.train = content["step"], content["train"]
        self.held_out = [tuple(pair) for pair in content["held_out"]]


def make_optimizer(model: nn.Module, settings: Settings) -> Optimizer:
    """Return AdamW over the model's parameters; only matrices decay."""
    decays: list[nn.Parameter] = []
    stays: list[nn.Parameter] = []
    for parameter in model.parameters():
        (decays if parameter.ndim > 1 else stays).append(parameter)
    groups = [
        {"params": decays, "weight_decay": settings.weight_decay},
        {"params": stays, "weight_decay": 0.0},
    ]
    kinds: dict[str, Callable[..., Optimizer]] = {
        "fused": accel.optim.FusedAdam,
        "8bit": accel.optim.Adam8bit,
        "torch": torch.optim.AdamW,
    }
    return kinds[settings.optimizer](groups, lr=settings.lr, betas=(0.9, 0.95))


def make_run(acc: accel.Accelerator, world: World, settings: Settings, *, shard: bool) -> Run:
    """Build everything that a run needs, at step 0."""
    if settings.bf16 and not acc.is_bf16_supported():
        raise RunError(f"--bf16: {acc.device_name()} has no bfloat16. Leave the option out.")
    text = data.load_text()
    if settings.context >= len(text.held_out):
        raise RunError(
            f"--context {settings.context} is longer than the text held out, {len(text.held_out)}."
        )
    torch.manual_seed(settings.seed)
    shape = Shape(
        settings.context, settings.width, settings.depth, settings.heads, settings.dropout
    )
    # Initialised on the host, so that a run begins alike on every device.
    model = ByteTransformer(shape).to(acc.device_name(world.local_rank))
    trained = spread(model, acc, world, shard=shard)
    # From here on the processes differ, so that their dropout does.
    torch.manual_seed(settings.seed + world.rank)
    acc.manual_seed_all(settings.seed + world.rank)
    return Run(
        acc=acc,
        world=world,
        settings=settings,
        text=text,
        model=model,
        trained=trained,
        optimizer=make_optimizer(model, settings),
        sharded=shard,
        windows=data.evaluation_windows(text.held_out, _EVALUATED_WINDOWS, settings.context),
    )
