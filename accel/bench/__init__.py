"""Benchmarks on the user's own machine: ``accel bench``."""
