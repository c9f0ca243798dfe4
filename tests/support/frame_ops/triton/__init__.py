"""Triton kernels, each beside the op whose name it has."""
