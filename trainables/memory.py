"""What training a method takes of the machine's memory, counted before anything is built."""

import os

import torch

from trainables.method import Method

BYTES_PER_PARAMETER = 16  # float32: the weight, its gradient and two moments of Adam


def of_this_machine() -> int:
    """Bytes of main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_memory(cls: type[Method], hyper: Method.Hyper, shape: tuple[int, ...], memory: int) -> None:
    """Raises ValueError where training a method on images or points of this shape would take more than `memory` bytes.

    Nothing is allocated. A method from outside that cannot be built without values is not counted.
    """
    try:
        with torch.device("meta"):
            count = sum(p.numel() for p in cls(hyper, shape).parameters())
    except NotImplementedError:  # PyTorch's, where values are asked for
        return
    except (RuntimeError, TypeError, OverflowError) as error:  # PyTorch's, of sizes beyond 64 bits
        why = str(error).partition("\n")[0]
        raise ValueError(f"cannot be built ({why}); choose a smaller network or latent_dim") from None
    needed = count * BYTES_PER_PARAMETER
    if needed > memory:
        raise ValueError(
            f"{count:,} parameters take {needed / 1e9:.1f} GB to train, and this machine has {memory / 1e9:.1f} GB; "
            "choose a smaller network or latent_dim"
        )
