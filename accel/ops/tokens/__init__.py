"""Ops that choose among the tokens of a sequence."""
