"""Tensors as codes of few bits, in the same bits on every device."""
