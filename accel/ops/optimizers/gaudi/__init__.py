"""Gaudi's own fused optimizers, if its software has them and they meet an op's requirements.

Importing this package imports neither torch nor Gaudi's software.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from accel import environment
from accel.errors import OpUnavailable
from accel.probe import Accepted, Probe, Rejected
from accel.targets import resolve

if TYPE_CHECKING:
    from accel.ops.optimizers.lists import TensorLists

PACKAGE = "habana_frameworks.torch"

STEPS: Mapping[str, tuple[str, str]] = {
    "accel_adam_step": ("FusedAdamW", "accel.ops.optimizers.gaudi.adam:GaudiAdam"),
}
"""Entry points of native libraries, with the vendor's class and the class that steps with it."""

UNFIT: Mapping[str, str] = {
    "accel_lamb_step": "its FusedLamb neither bounds the ratio of norms nor returns it.",
}
"""Entry points whose optimizer the vendor has but that cannot be used, with the reason."""

OPTIMIZERS = tuple(
    symbol.removeprefix("accel_").removesuffix("_step") for symbol in (*STEPS, *UNFIT)
)
"""Stems of the optimizers that the vendor has, usable or not."""

ListStep = Callable[["TensorLists", Any], None]
"""A function that steps checked lists: the tensors, and the numbers of the step."""


@dataclass(frozen=True, slots=True)
class Gaudi:
    """An implementation that takes the place of a native library.

    Attributes:
        optimizer: the vendor's class.
        rung: ``"vendor"``.
        digest: ``"hpex"``: one implementation in each process.
        path: the file of the vendor's package.
    """

    optimizer: Any
    path: Path | None = None
    rung: Literal["vendor"] = "vendor"
    digest: str = "hpex"

    def bind(self, symbol: str) -> ListStep:
        """Return a function that steps lists, as a native library's entry point does."""
        step: ListStep = resolve(STEPS[symbol][1])(self.optimizer)
        return step


def probe_gaudi(symbol: str) -> Probe:
    """Return whether the vendor has a usable optimizer; imports none of its software."""
    if symbol not in STEPS:
        return Rejected(UNFIT.get(symbol, "it has no such optimizer."))
    if environment.hpu_lazy_mode():
        return Rejected(
            "it cannot be used in lazy mode: the number of a step comes from the host, and a "
            "captured graph would repeat it.",
            "Eager mode is the default: leave PT_HPU_LAZY_MODE unset.",
        )
    if not _has_optimizers():
        return Rejected(f"{PACKAGE}.hpex.optimizers is not installed.", "Install Gaudi's software.")
    return Accepted(f"{PACKAGE}.hpex.optimizers.{STEPS[symbol][0]}")


def _has_optimizers() -> bool:
    """Return whether the module's files exist; importing its parent would start Gaudi."""
    try:
        spec = find_spec(PACKAGE)
    except (ImportError, ValueError):
        return False
    for name in ("hpex", "optimizers"):
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec is not None


def load_gaudi(symbol: str) -> Gaudi:
    """Import the vendor's optimizer for an entry point.

    Raises:
        OpUnavailable: the vendor's software cannot be imported, or has no such class.
    """
    name = STEPS[symbol][0]
    try:
        module = import_module(f"{PACKAGE}.hpex.optimizers")
        optimizer = getattr(module, name)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise OpUnavailable(
            f"{PACKAGE}.hpex.optimizers.{name}: {type(error).__name__}: {error}. "
            f"Install the release of Gaudi's software for this torch."
        ) from error
    file = getattr(module, "__file__", None)
    return Gaudi(optimizer, Path(file) if file else None)
