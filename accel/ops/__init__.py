"""Ops: one module per family with call surface, argument checks, reference and registration."""
