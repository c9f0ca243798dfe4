"""Torch-free declarations of each op on each backend, one small class per op."""
