"""A user's own torch module as the feature extractor, by its dotted path."""

from __future__ import annotations

import torch
from torch import nn

from trainables import outside
from trainables.datasets import Splits
from trainables.metrics.extractors import Extractor, fingerprint, frozen


def custom(path: str, recorded: str, splits: Splits, device: torch.device | str = "cpu") -> Extractor:
    """The extractor `package.module:Name`, a torch module or what makes one; `recorded` is what its metric is called.

    The module takes images (B, C, H, W) in [0, 1] of the data set's size and gives features (B, F).
    ValueError: nothing of that name, no torch module, or other shapes.
    """
    name = path.partition(":")[2]
    thing = outside.part(path, f"--metric {path}")
    try:
        network = thing() if callable(thing) and not isinstance(thing, nn.Module) else thing
    except Exception as error:  # whatever a stranger's code raises
        raise ValueError(f"--metric {path}: {outside.fault(error)}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"--metric {path}: {name!r} is no torch module and makes none")
    network = frozen(network, device)
    try:
        with torch.no_grad():
            features = network(torch.zeros(2, *splits.shape, device=device))
    except Exception as error:
        reason = outside.fault(error)
        raise ValueError(f"--metric {path}: images of shape {splits.shape} are not taken: {reason}") from error
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
