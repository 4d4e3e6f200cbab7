"""The network of the FID: pytorch_fid's port of TensorFlow's Inception of 2015-12-05, and no other.

House protocol `std`: 8-bit images, bilinear to 299 x 299 without antialias, scaled to [-1, 1], grey
replicated to 3 channels; pytorch_fid's network does the resize and the scaling itself.

B batch, C H W image, F = 2048 features.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from unittest.mock import patch

import torch
from pytorch_fid import inception as pytorch_fid
from torch import Tensor, nn
from torch.nn.functional import interpolate

from trainables.metrics.extractors import Extractor, fingerprint, frozen

WEIGHTS = pytorch_fid.FID_WEIGHTS_URL.rsplit("/", 1)[1]


class Inception(nn.Module):
    """pytorch_fid's InceptionV3 up to its last pooling, (B, 3, H, W) in [0, 1] -> (B, 2048)."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        # The library fetches its weights inside the constructor; this is the one place to hand it ours.
        with patch.object(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: state):
            self.network = pytorch_fid.InceptionV3()
        # The library drops the classes' layer.  The Inception Score is defined on its logits without bias.
        classes, dims = state["fc.weight"].shape  # (1008, 2048)
        self.head = nn.Linear(dims, classes, bias=False)
        self.head.weight.data.copy_(state["fc.weight"])

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[0].flatten(1)


class EarlyFeatures(nn.Module):
    """The network up to its third convolution, averaged over the picture: (B, C, H, W) in [0, 1] -> (B, 64).

    Gradients pass, so a method can descend them (methods.md 4.5); grey images are replicated.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.layers = Inception(state).network.blocks[0][:3]

    def forward(self, images: Tensor) -> Tensor:
        x = interpolate(images.expand(-1, 3, -1, -1), size=(299, 299), mode="bilinear", align_corners=False)
        return self.layers(2 * x - 1).mean((2, 3))


@cache
def early_features(device: torch.device | str) -> nn.Module:
    """One `EarlyFeatures` for all who ask, with the weights that torch hub holds or downloads.

    ValueError: no weights to be had.
    """
    return frozen(EarlyFeatures(_from_hub()), device)


def inception(weights: str | Path | None = None, device: torch.device | str = "cpu") -> Extractor:
    """The extractor of the FID, with the weights of a file or else those that torch hub holds or downloads.

    ValueError: no such file, not the network's weights, or no weights to be had.
    """
    state = _read(Path(weights)) if weights is not None else _from_hub()
    source = weights if weights is not None else WEIGHTS
    try:
        network = Inception(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(_not_the_weights(source)) from error
    network = frozen(network, device)
    return Extractor(
        name="inception-2015",
        metric="fid",
        dims=2048,
        channels=3,
        resize="bilinear 299, no antialias",
        fingerprint=fingerprint(state),
        network=network,
        device=torch.device(device),
        head=network.head,
    )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"--fid-weights {path}: no such file; expected {WEIGHTS}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error of its own: it lets those of zip and pickle through
        raise ValueError(_not_the_weights(path)) from error


def _not_the_weights(source: str | Path) -> str:
    return f"{source} does not hold the weights of the FID's network; expected {WEIGHTS}"


def _from_hub() -> dict[str, Tensor]:
    path = Path(torch.hub.get_dir(), "checkpoints", WEIGHTS)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            checksum = WEIGHTS.removesuffix(".pth").rsplit("-", 1)[1]
            torch.hub.download_url_to_file(pytorch_fid.FID_WEIGHTS_URL, str(path), checksum, progress=False)
        except (OSError, RuntimeError) as error:  # no network, no disk; the checksum of the download is wrong
            raise ValueError(
                f"the FID's weights could not be downloaded ({error}); give them with --fid-weights PATH, "
                f"or put {WEIGHTS} in {path.parent}, or use --metric fcd"
            ) from error
    return _read(path)
