"""Ops of every shape that the frame carries, declared as a package of somebody's own does it."""
