"""Prepared steps: the checks that they are still valid, and the native calls."""
