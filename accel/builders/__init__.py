"""How each op is had on each backend: torch-free declarations, one small class per op."""
