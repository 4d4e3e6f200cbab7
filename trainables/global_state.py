"""The global settings of a process, which are reset between trials.

PyTorch and NumPy have process-wide settings. A method that changes one without resetting it would make the next trial
fail or change its results.
"""

import os
import random
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module
from torch.optim import optimizer

Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # getter and setter


def _autocast(device: str) -> tuple[Setting, Setting]:
    return (
        (lambda: torch.is_autocast_enabled(device), lambda value: torch.set_autocast_enabled(device, value)),
        (lambda: torch.get_autocast_dtype(device), lambda value: torch.set_autocast_dtype(device, value)),
    )


def _attribute(owner: Any, name: str) -> Setting:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def _mapping(read: Callable[[], MutableMapping[Any, Any]]) -> Setting:
    """A setting that is a mapping. Only what differs is written, because other threads may read it."""

    def write(value: Mapping[Any, Any]) -> None:
        now = read()
        for name in now.keys() - value.keys():
            del now[name]
        now.update({name: value[name] for name in value if name not in now or now[name] != value[name]})

    return lambda: dict(read()), write


def _filter_warnings(filters: list[Any]) -> None:
    warnings.resetwarnings()  # also tells the interpreter that the filters change
    warnings.filters.extend(filters)  # type: ignore[attr-defined]  # a list


def _handle_signals(handlers: Mapping[int, Any]) -> None:
    signal.alarm(0)
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:  # None: not set by Python
            signal.signal(number, handler)


backends: Any = torch.backends  # which replaces its modules, so that types are not known
PRECISE = (  # from the general to the special, whose value a write to the general replaces
    backends, backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul,
    backends.mkldnn, backends.mkldnn.conv, backends.mkldnn.rnn, backends.mkldnn.matmul,
)  # fmt: skip
HOOKS = [name for name, hooks in vars(module).items() if name.startswith("_global_") and isinstance(hooks, dict)]

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
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    _attribute(torch.backends.cudnn, "enabled"),
    _attribute(torch.backends.cudnn, "benchmark"),
    _attribute(torch.backends.cudnn, "deterministic"),
    _attribute(torch.backends.cudnn, "allow_tf32"),
    _attribute(torch.backends.mkldnn, "enabled"),
    _attribute(torch.backends.mkldnn, "deterministic"),
    _attribute(torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
    _attribute(torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"),
    *(_attribute(owner, "fp32_precision") for owner in PRECISE),  # after the older functions, which write them, too
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    # Hooks of all modules; no function removes those of others.
    *(_mapping(partial(getattr, module, name)) for name in HOOKS),
    _attribute(module, "_global_is_full_backward_hook"),
    *(_mapping(partial(getattr, optimizer, f"_global_optimizer_{when}_hooks")) for when in ("pre", "post")),
    (np.geterr, lambda value: np.seterr(**value)),
    (lambda: list(warnings.filters), _filter_warnings),
    _mapping(lambda: os.environ),
    (lambda: {number: signal.getsignal(number) for number in signal.valid_signals()}, _handle_signals),
    (partial(signal.pthread_sigmask, signal.SIG_BLOCK, ()), partial(signal.pthread_sigmask, signal.SIG_SETMASK)),
    (os.getcwd, os.chdir),
)


def settings() -> Callable[[int], None]:
    """Reads all settings and returns a function that restores them and seeds the generators of Python and NumPy.

    Each training seeds PyTorch's generator itself.
    """
    restore_settings = _settings()

    def restore(seed: int) -> None:
        restore_settings()
        torch.set_flush_denormal(True)  # has no getter
        random.seed(seed)
        np.random.seed(seed % 2**32)

    return restore


@contextmanager
def kept() -> Iterator[None]:
    """Context manager that restores all settings at its end, for code of others in a process that goes on."""
    restore = _settings()
    try:
        yield
    finally:
        restore()


def _settings() -> Callable[[], None]:
    values = [read() for read, _ in SETTINGS]

    def restore() -> None:
        torch.clear_autocast_cache()
        for value, (_, write) in zip(values, SETTINGS, strict=True):
            write(value)

    return restore
