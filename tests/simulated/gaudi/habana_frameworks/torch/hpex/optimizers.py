"""The fused optimizers by their documented names, in plain PyTorch; steps are counted for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

steps = 0


class FusedAdamW(torch.optim.Optimizer):
    """AdamW with epsilon beside the uncorrected root, on state made on first use."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        bias_correction: bool = True,
    ) -> None:
        numbers = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, numbers | {"bias_correction": bias_correction})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        global steps
        steps += 1
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            beta1, beta2 = group["betas"]
            rate = group["lr"]
            if group["bias_correction"]:
                rate *= (1 - beta2 ** group["step"]) ** 0.5 / (1 - beta1 ** group["step"])
            for param in group["params"]:
                state = self.state[param]
                if not state:
                    state["exp_avg"] = torch.zeros_like(param)
                    state["exp_avg_sq"] = torch.zeros_like(param)
                m, v = state["exp_avg"], state["exp_avg_sq"]
                m.mul_(beta1).add_(param.grad, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(param.grad, param.grad, value=1 - beta2)
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.addcdiv_(m, v.sqrt().add_(group["eps"]), value=-rate)


class FusedLamb(torch.optim.Optimizer):
    """There to be found; nothing of it is used."""
