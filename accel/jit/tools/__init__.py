"""Compilers and other tools: which there are, and which flags they get."""
