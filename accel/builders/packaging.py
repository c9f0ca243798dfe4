"""A recipe as a ``setuptools.Extension``, for who packages the same sources on their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.jit import Recipe


def extension(name: str, recipe: Recipe) -> Any:
    """Return the ``setuptools.Extension`` that builds a recipe's sources, whole, under `name`."""
    from setuptools import Extension

    openmp = ["-fopenmp"] if recipe.openmp else []
    return Extension(
        name=name,
        sources=[str(source) for source in recipe.sources],
        include_dirs=[str(folder) for folder in recipe.include_dirs],
        extra_compile_args=["-std=c++17", "-O3", *recipe.compile_flags, *openmp],
        extra_link_args=[*recipe.link_flags, *openmp],
        language="c++",
    )
