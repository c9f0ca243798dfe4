"""The frame of an op: one declaration gives checks, native call, autograd and registration."""
