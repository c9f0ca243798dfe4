"""Builds: compilers run under a supervisor, and libraries published whole."""
