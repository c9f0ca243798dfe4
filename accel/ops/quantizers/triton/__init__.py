"""Triton kernels of quantizers, in the module of their op's name."""
