"""A stand-in for Gaudi's software on the simulated device: the names that its documentation gives.

What is not documented is absent, so that the strategy cannot lean on it unseen.
"""
