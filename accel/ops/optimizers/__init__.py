"""The optimizer ops."""
