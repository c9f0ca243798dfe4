"""Steps that were prepared: what is watched, and what is called."""
