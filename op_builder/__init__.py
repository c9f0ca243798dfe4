"""Names of op builders, each forwarded to the accelerator in use.

``op_builder.FusedAdamBuilder`` is the current accelerator's class; the builders themselves live in
``accel.builders``. Importing this package imports no torch.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.builders.base import OpBuilder as OpBuilder
    from accel.builders.kinds import CUDAOpBuilder as CUDAOpBuilder
    from accel.builders.torch_extension import TorchOpBuilder as TorchOpBuilder

    __op_builders__: tuple[str, ...]

_KINDS = {
    "CUDAOpBuilder": "accel.builders.kinds",
    "OpBuilder": "accel.builders.base",
    "TorchOpBuilder": "accel.builders.torch_extension",
}


_FUNCTIONS = ("builder_closure", "get_default_compute_capabilities")


def builder_closure(name: str) -> Any:
    """Return the builder class `name` of the accelerator in use.

    If torch cannot be imported, as while it is being installed, the result is a function that
    looks the class up when called, and takes what its constructor takes.

    Raises:
        UnknownOp: no op has that name; without torch, when the function is called.
    """
    if _has_torch():
        return _current_class(name)

    def make(*args: Any, **kwargs: Any) -> Any:
        return _current_class(name)(*args, **kwargs)

    make.__name__ = make.__qualname__ = name
    return make


def get_default_compute_capabilities() -> str:
    """Return the CUDA targets to build for by default, such as ``"8.0;9.0;10.0;12.0+PTX"``.

    Answered by the accelerator in use; ``""`` off CUDA.
    """
    from accel.current import get_accelerator

    return get_accelerator().default_compute_capabilities()


def _has_torch() -> bool:
    try:
        return find_spec("torch") is not None
    except ValueError:
        return True  # It is imported, although it was made without a spec.


def _current_class(name: str) -> Any:
    from accel.current import get_accelerator

    return get_accelerator().get_op_builder(name)


def _names() -> tuple[str, ...]:
    from accel.registry import builder_names

    return builder_names()


def _meet_deepspeed() -> None:
    """Answer DeepSpeed's question whether this package is its own: no, but bridge it if wanted."""
    from accel import environment

    if environment.deepspeed_mode():
        from accel.integrations.deepspeed import install

        install()


def __getattr__(name: str) -> Any:
    if name == "__op_builders__":
        return _names()
    if name == "__all__":
        return [*_FUNCTIONS, *_KINDS, *_names()]
    if name in _KINDS:
        from importlib import import_module

        return getattr(import_module(_KINDS[name]), name)
    if name == "__deepspeed__":
        _meet_deepspeed()
    elif name.endswith("Builder") and not name.startswith("_"):
        if _has_torch() or name not in _names():
            return _current_class(name)
        return builder_closure(name)
    raise AttributeError(f"module 'op_builder' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_KINDS, *_names(), "__op_builders__"})
