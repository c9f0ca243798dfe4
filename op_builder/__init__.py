"""Names of op builders, each forwarded to the accelerator in use.

``op_builder.FusedAdamBuilder`` is the current accelerator's class; the builders themselves live in
``accel.builders``. Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.builders.base import CUDAOpBuilder as CUDAOpBuilder
    from accel.builders.base import OpBuilder as OpBuilder
    from accel.builders.torch_extension import TorchOpBuilder as TorchOpBuilder

    __op_builders__: tuple[str, ...]

_KINDS = {
    "CUDAOpBuilder": "accel.builders.base",
    "OpBuilder": "accel.builders.base",
    "TorchOpBuilder": "accel.builders.torch_extension",
}


def builder_closure(name: str) -> Callable[..., Any]:
    """Return a function that makes the builder `name` of the accelerator in use when called.

    It decides at the call, so that an installer can hold it where torch is not installed yet.
    The function takes what the builder's constructor takes, and raises `accel.errors.UnknownOp`
    for a name that no op has.
    """

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


def _current_class(name: str) -> Any:
    from accel.current import get_accelerator

    return get_accelerator().get_op_builder(name)


def _names() -> tuple[str, ...]:
    from accel.registry import builder_names

    return builder_names()


def _meet_deepspeed() -> None:
    """DeepSpeed asks whether this package is its own: it is not, and the bridge may be wanted."""
    from accel import environment

    if environment.deepspeed_mode():
        from accel.deepspeed import install

        install()


def __getattr__(name: str) -> Any:
    if name == "__op_builders__":
        return _names()
    if name in _KINDS:
        from importlib import import_module

        return getattr(import_module(_KINDS[name]), name)
    if name == "__deepspeed__":
        _meet_deepspeed()
    elif name.endswith("Builder") and not name.startswith("_"):
        if find_spec("torch") is None and name in _names():
            return builder_closure(name)
        return _current_class(name)
    raise AttributeError(f"module 'op_builder' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_KINDS, *_names(), "__op_builders__"})
