"""Gaudi's extensions."""
