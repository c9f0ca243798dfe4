"""Importing this registers ``hccl`` with ``torch.distributed``."""

from simulator import collectives

collectives.register("hccl", "hpu")
