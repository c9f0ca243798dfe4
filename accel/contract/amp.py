"""Automatic mixed precision on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from accel.contract.forward import Forwarding

if TYPE_CHECKING:
    import torch
    from torch.amp import GradScaler


class Amp:
    """`torch.amp` with the device filled in, as the older `torch.cuda.amp` was for CUDA."""

    def __init__(self, members: AmpMembers) -> None:
        self._members = members

    def autocast(
        self,
        enabled: bool = True,
        dtype: torch.dtype | None = None,
        cache_enabled: bool | None = None,
    ) -> torch.autocast:
        """Return `Accelerator.autocast`, with the order of arguments of `torch.cuda.amp`."""
        return self._members.autocast(dtype, enabled, cache_enabled)

    def GradScaler(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> GradScaler:
        """Return `Accelerator.GradScaler`."""
        return self._members.GradScaler(
            init_scale, growth_factor, backoff_factor, growth_interval, enabled
        )

    def custom_fwd(
        self, fwd: Callable[..., Any] | None = None, *, cast_inputs: torch.dtype | None = None
    ) -> Callable[..., Any]:
        """Decorate ``forward`` of an autograd function; see `torch.amp.custom_fwd`."""
        from torch import amp

        kind = self._members.device_type
        found: Callable[..., Any] = amp.custom_fwd(fwd, device_type=kind, cast_inputs=cast_inputs)
        return found

    def custom_bwd(self, bwd: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Decorate ``backward`` of an autograd function; see `torch.amp.custom_bwd`."""
        from torch import amp

        kind = self._members.device_type
        found: Callable[..., Any] = amp.custom_bwd(bwd, device_type=kind)
        return found

    def __repr__(self) -> str:
        """Return text that names the device."""
        return f"Amp({self._members.device_type!r})"


class AmpMembers(Forwarding):
    """Mixed-precision members of the contract."""

    def amp(self) -> Amp:
        """Return `torch.amp` for this device: ``autocast``, ``GradScaler``. No device context."""
        return Amp(self)

    def autocast(
        self,
        dtype: torch.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> torch.autocast:
        """Return `torch.autocast` for this device, a context manager and decorator.

        Args:
            dtype: dtype of operations that are faster in it. Default: torch's for the device.
            enabled: whether it has an effect.
            cache_enabled: whether weights are cast once for a block. Default: torch's setting.

        Raises:
            Unsupported: torch has no autocast for the device.
            BackendUnavailable: the device cannot be used here.
        """
        import torch

        self._require("autocast")
        if not torch.amp.is_autocast_available(self.device_type):
            raise self._unsupported(
                "autocast",
                f"torch {torch.__version__} has none for {self.device_type!r}.",
                "Convert the model with .to(dtype) instead.",
            )
        return torch.autocast(self.device_type, dtype, enabled, cache_enabled)

    def GradScaler(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> GradScaler:
        """Return a `torch.amp.GradScaler` for this device, with the same arguments.

        Raises:
            BackendUnavailable: the device cannot be used here.
        """
        from torch import amp

        self._require("GradScaler")
        return amp.GradScaler(
            self.device_type, init_scale, growth_factor, backoff_factor, growth_interval, enabled
        )
