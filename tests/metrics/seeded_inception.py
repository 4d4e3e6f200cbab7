"""A file of weights for the FID's network without its training: the trained ones cannot be shipped."""

from pathlib import Path
from unittest.mock import patch

import torch
from pytorch_fid import inception as library
from torchvision.models import Inception3


def write(path: Path) -> Path:
    """The network's names and shapes, and random values that keep its activations alive."""
    with (
        patch.object(library, "load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(Inception3, "load_state_dict", lambda *_: None),
    ):
        network = library.fid_inception_v3()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter, generator=generator)
        elif name.startswith("fc."):
            torch.nn.init.normal_(parameter, std=0.01, generator=generator)
    torch.save(network.state_dict(), path)
    return path
