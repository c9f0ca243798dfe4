"""The formulas of optimizers in plain PyTorch."""
