"""Hooks of other frameworks."""
