"""Triton kernels over lists of tensors, in the module of their op's name."""
