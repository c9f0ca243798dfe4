"""Optimizers whose states live in files, of which a step keeps only some buffers in memory."""
