"""Utilities: tensors as bytes."""
