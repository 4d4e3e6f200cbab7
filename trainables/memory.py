"""The memory that training a method needs: estimated before anything is allocated, and measured by one step."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from trainables import global_state
from trainables.config import Config
from trainables.method import Method
from trainables.training import Training

BYTES_PER_PARAMETER = 16  # float32: the weight, its gradient and two moments of Adam


def of_this_machine() -> int:
    """Returns the main memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_memory(cls: type[Method], hyper: Method.Hyper, shape: tuple[int, ...], memory: int) -> None:
    """Raises ValueError if training a method on images or points of this shape needs more than `memory` bytes.

    Nothing is allocated. External methods that cannot be built on the meta device are not checked.
    """
    try:
        with torch.device("meta"):
            count = sum(p.numel() for p in cls(hyper, shape).parameters())
    except NotImplementedError:  # from PyTorch, if the method reads values
        return
    except (RuntimeError, TypeError, OverflowError) as error:  # from PyTorch, for sizes beyond 64 bits
        why = str(error).partition("\n")[0]
        raise ValueError(f"cannot be built ({why}); choose a smaller network or latent_dim") from None
    needed = count * BYTES_PER_PARAMETER
    if needed > memory:
        raise ValueError(
            f"{count:,} parameters take {needed / 1e9:.1f} GB to train, and this machine has {memory / 1e9:.1f} GB; "
            "choose a smaller network or latent_dim"
        )


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training needs on its device.

    network: parameters and buffers; optimiser: gradients and the state of the optimisers; activations: the most that
    the backward passes of a batch keep; images: the training split, which stays on the host if it does not fit.
    """

    network: int
    optimiser: int
    activations: int
    images: int

    @property
    def step(self) -> int:
        """Bytes of a training step, without those of the images."""
        return self.network + self.optimiser + self.activations

    def __str__(self) -> str:
        parts = {"network": self.network, "optimiser": self.optimiser, "activations": self.activations}
        words = ", ".join(f"{name} {readable(size)}" for name, size in parts.items())
        return f"{readable(self.step)} ({words}), training images {readable(self.images)}"


def footprint(config: Config, images: Tensor) -> Footprint:
    """Measures the first step of a training on the CPU; later stages may need more.

    images: the training split, uint8 (N, C, H, W) or float32 points (N, P).
    """
    first = images[: config.hyper.batch_size].clone()
    with global_state.kept():
        training = Training(config.model_copy(update={"epochs": max(2, config.epochs)}), first)
        with Activations(training.method.parameters()) as kept:
            training.run_epoch()
    method = training.method
    states = [value for turn in training.turns for state in turn.optimiser.state.values() for value in state.values()]
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    return Footprint(
        network=_bytes([*method.parameters(), *method.buffers()]),
        optimiser=_bytes([*gradients, *(value for value in states if isinstance(value, Tensor))]),
        activations=kept.peak,
        images=images.nbytes,
    )


class Activations(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that autograd keeps for backward passes, at most at a time; parameters are not counted."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__(self._keep, lambda kept: kept.tensor)
        self.known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        self.users: Counter[int] = Counter()  # of each storage
        self.now = self.peak = 0

    def __enter__(self) -> Self:  # type: ignore[override]  # PyTorch's returns nothing
        super().__enter__()
        return self

    def _keep(self, tensor: Tensor) -> "_Kept":
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self.known:
            return _Kept(tensor, None, 0, 0)
        if not self.users[place]:
            self.now += size
            self.peak = max(self.peak, self.now)
        self.users[place] += 1
        return _Kept(tensor, self, place, size)

    def free(self, place: int, size: int) -> None:
        """One of the users of a storage is gone."""
        self.users[place] -= 1
        if not self.users[place]:
            self.now -= size


class _Kept:
    def __init__(self, tensor: Tensor, meter: Activations | None, place: int, size: int) -> None:
        self.tensor, self.meter, self.place, self.size = tensor, meter, place, size

    def __del__(self) -> None:
        if self.meter is not None:
            self.meter.free(self.place, self.size)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum({t.untyped_storage().data_ptr(): t.nbytes for t in tensors}.values())


def readable(size: float) -> str:
    """12_300_000 -> "12.3 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
