"""Optimizers that keep their states on the host."""
