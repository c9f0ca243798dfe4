"""Two simulated devices, late as real ones: what a vendor's driver and runtime would be.

`torch_sim` binds them to torch under a name of their own, `habana_frameworks` under Gaudi's.
"""
