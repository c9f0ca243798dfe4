"""Lists of tensors: their norms, scaled, added and clipped, in one call."""
