"""The process that runs many trials: its resource limits, and global settings that are reset between trials.

PyTorch and NumPy have process-wide settings. A method that changes one without resetting it would make the next trial
fail or change its results.
"""

import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # getter and setter


def _autocast(device: str) -> tuple[Setting, Setting]:
    return (
        (lambda: torch.is_autocast_enabled(device), lambda value: torch.set_autocast_enabled(device, value)),
        (lambda: torch.get_autocast_dtype(device), lambda value: torch.set_autocast_dtype(device, value)),
    )


def _attribute(owner: Any, name: str) -> Setting:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


SETTINGS: tuple[Setting, ...] = (
    (lambda: None, torch.set_default_device),  # None resets it; "cpu" would slow down every call
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    *_autocast("cpu"),
    *_autocast("cuda"),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    _attribute(torch.backends.cudnn, "benchmark"),
    _attribute(torch.backends.cudnn, "deterministic"),
    (np.geterr, lambda value: np.seterr(**value)),
    (os.getcwd, os.chdir),
)


def limit(cpus: float, gpus: float) -> torch.device:
    """Limit this process to its share of the machine; return the device to train on."""
    torch.set_num_threads(max(1, int(cpus)))
    torch.set_flush_denormal(True)
    if 0 < gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)
    return torch.device("cuda" if torch.cuda.is_available() and gpus > 0 else "cpu")


def settings() -> Callable[[int], None]:
    """Read all settings and return a function that restores them and seeds the generators of Python and NumPy.

    Each training seeds PyTorch's generator itself.
    """
    values = [read() for read, _ in SETTINGS]

    def restore(seed: int) -> None:
        torch.clear_autocast_cache()
        torch.set_flush_denormal(True)  # has no getter
        for value, (_, write) in zip(values, SETTINGS, strict=True):
            write(value)
        random.seed(seed)
        np.random.seed(seed % 2**32)

    return restore
