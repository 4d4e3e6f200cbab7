"""Sweeps over autoencoder-based generative models. The Python API is `from sweep import Sweep`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.api import Sweep

__all__ = ["Sweep"]


def __getattr__(name: str) -> Any:
    if name == "Sweep":  # imported lazily: a worker does not need what runs and reads a sweep
        from sweep.api import Sweep

        return Sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
