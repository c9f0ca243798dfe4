"""Train a tiny model on the accelerator that is found: ``python examples/small.py [STEPS]``."""

import sys
import time

import torch

import accel


def main(steps: int) -> None:
    """Fit a function of 16 numbers, and print the loss and the throughput."""
    acc = accel.get_accelerator()
    device = acc.device()
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(16, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)
    ).to(device)
    optimizer = accel.optim.FusedAdam(model.parameters(), lr=1e-2)
    data = torch.randn(4096, 16, device=device)
    target = data.sin().sum(dim=1, keepdim=True)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        loss = (model(data) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in {1, steps}:
            print(f"step {step}: loss {loss.item():.4f}")
    acc.synchronize()
    rate = steps * len(data) / (time.perf_counter() - start)
    op = acc.create_op_builder("FusedAdamBuilder").load()
    print(f"{acc.name}, FusedAdam {op.implementation}: {rate:,.0f} samples/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
