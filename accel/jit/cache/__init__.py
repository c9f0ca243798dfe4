"""The cache of built libraries."""
