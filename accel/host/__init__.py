"""Streams, events, graphs and memory of the host."""
