"""The frame of an op: from one declaration its checks, native call, autograd and registration."""
