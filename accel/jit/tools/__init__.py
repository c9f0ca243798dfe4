"""Compilers and other tools: finding them, and their flags."""
