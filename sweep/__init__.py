"""Sweeps over autoencoder-based generative models. `from sweep import Sweep` is the way in from Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.api import Sweep

__all__ = ["Sweep"]


def __getattr__(name: str) -> Any:
    if name == "Sweep":  # only now: a worker needs none of what a sweep is run and read with
        from sweep.api import Sweep

        return Sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
