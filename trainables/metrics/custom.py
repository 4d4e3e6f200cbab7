"""A user's own torch module as the feature extractor, by its dotted path."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import torch
from torch import nn

from trainables.datasets import Splits
from trainables.metrics.choice import choose
from trainables.metrics.extractors import Extractor, fingerprint, frozen


def custom(path: str, splits: Splits, device: torch.device | str = "cpu") -> Extractor:
    """The extractor `package.module:Name`, a torch module or what makes one; its metric is fd_<name>.

    The module takes images (B, C, H, W) in [0, 1] of the data set's size and gives features (B, F).
    ValueError: nothing of that name, no torch module, or other shapes.
    """
    place, _, name = path.partition(":")
    try:
        known = find_spec(place) is not None
    except (ModuleNotFoundError, ValueError):  # a parent package is missing; an empty name
        known = False
    if not known:
        raise ValueError(f"--metric {path}: no module {place!r}; it must be importable where the trial runs")
    thing = getattr(import_module(place), name, None)
    network = thing() if callable(thing) and not isinstance(thing, nn.Module) else thing
    if not isinstance(network, nn.Module):
        raise ValueError(f"--metric {path}: {name!r} of {place} is no torch module and makes none")
    network = frozen(network, device)
    try:
        with torch.no_grad():
            features = network(torch.zeros(2, *splits.shape, device=device))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--metric {path}: images of shape {splits.shape} are not taken: {reason}") from error
    if features.ndim != 2 or len(features) != 2:
        raise ValueError(
            f"--metric {path}: expected features of shape (B, F), got {tuple(features.shape)} for 2 images"
        )
    return Extractor(
        name=path,
        metric=choose(path).recorded,
        dims=features.shape[1],
        channels=splits.shape[0],
        resize="the module's own",
        fingerprint=fingerprint(network.state_dict()),
        network=network,
        device=torch.device(device),
    )
