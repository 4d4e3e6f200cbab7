"""An estimate of the memory that training a method needs, made before anything is allocated."""

import os

import torch

from trainables.method import Method

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
