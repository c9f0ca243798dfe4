"""Every op's builder by the op's name, as installers look for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.builders.base import OpBuilder

    ALL_OPS: dict[str, OpBuilder]
    accelerator_name: str

__all__ = ["ALL_OPS", "accelerator_name"]


def __getattr__(name: str) -> Any:
    """Answer for the accelerator in use: `ALL_OPS`, op name to builder, and `accelerator_name`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from accel.current import get_accelerator
    from accel.registry import builder_names

    accelerator = get_accelerator()
    if name == "accelerator_name":
        return accelerator.name
    made = [accelerator.create_op_builder(builder) for builder in builder_names()]
    return {builder.name: builder for builder in made}


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
