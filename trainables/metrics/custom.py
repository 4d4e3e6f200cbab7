"""A user-defined torch module as the feature extractor, by its dotted path."""

from __future__ import annotations

import torch
from torch import nn

from trainables import outside
from trainables.datasets import Splits
from trainables.metrics.extractors import Extractor, fingerprint, frozen


def custom(path: str, recorded: str, splits: Splits, device: torch.device | str = "cpu") -> Extractor:
    """Returns the extractor `package.module:Name`, a torch module or a factory; `recorded` is the name of its metric.

    The module takes images (B, C, H, W) in [0, 1] of the data set's size and returns features (B, F).
    Raises ValueError for an unknown name, another type, or features of another shape.
    """
    name = path.partition(":")[2]
    thing = outside.part(path, f"--metric {path}")
    try:
        network = thing() if callable(thing) and not isinstance(thing, nn.Module) else thing
    except Exception as error:  # external code may raise anything
        raise ValueError(f"--metric {path}: {outside.fault(error)}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"--metric {path}: {name!r} must be a torch module or return one")
    network = frozen(network, device)
    try:
        with torch.no_grad():
            features = network(torch.zeros(2, *splits.shape, device=device))
    except Exception as error:
        reason = outside.fault(error)
        raise ValueError(f"--metric {path}: fails on images of shape {splits.shape}: {reason}") from error
    if features.ndim != 2 or len(features) != 2:
        raise ValueError(
            f"--metric {path}: expected features of shape (B, F), got {tuple(features.shape)} for 2 images"
        )
    return Extractor(
        name=path,
        metric=recorded,
        dims=features.shape[1],
        channels=splits.shape[0],
        resize="the module's own",
        fingerprint=fingerprint(network.state_dict()),
        network=network,
        device=torch.device(device),
    )
