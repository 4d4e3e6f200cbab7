"""The network of the FID: pytorch_fid's port of TensorFlow's Inception of 2015-12-05.

Images of 8 bits, grey replicated to 3 channels, are resized to 299 x 299 pixels in one of three ways. The name of a
distance includes the way, because values for the same images differ by several per cent.

    fid              bilinear without antialias, v -> 2 v / 255 - 1, by pytorch_fid's own network: the default
    fid_tensorflow1  bilinear as in TensorFlow 1, v -> (v - 128) / 128: the graph of 2015, torch-fidelity
    fid_clean        bicubic with antialias, clipped to [0, 255], v -> (v - 128) / 128: clean-fid (Parmar et al., 2022)

B batch, C H W image, F = 2048 features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from pytorch_fid import inception as pytorch_fid
from torch import Tensor, nn
from torch.nn.functional import interpolate

from trainables.metrics.extractors import Extractor, fingerprint, frozen
from trainables.replaced import replaced

WEIGHTS = pytorch_fid.FID_WEIGHTS_URL.rsplit("/", 1)[1]
SIDE = 299  # pixels


def like_tensorflow1(images: Tensor) -> Tensor:
    """Resizes to SIDE x SIDE as TensorFlow 1 does, bilinear: output i is the value at i * size / SIDE, (B, C, H, W).

    It aligns corners of pixels instead of centres, so pictures shift by up to half an input pixel.
    """
    down, right = (_between_corners(size).to(images) for size in images.shape[2:])  # (SIDE, H), (SIDE, W)
    return down @ images @ right.T


def _between_corners(size: int) -> Tensor:
    """Returns the weights of `size` inputs in each of SIDE outputs, (SIDE, size)."""
    place = torch.arange(SIDE, dtype=torch.float64) * size / SIDE
    low = place.long()
    share = place - low
    rows, weights = torch.arange(SIDE), torch.zeros(SIDE, size, dtype=torch.float64)
    weights[rows, low] = 1 - share
    weights[rows, (low + 1).clamp_max(size - 1)] += share
    return weights


def bicubic(images: Tensor) -> Tensor:
    """Resizes to SIDE x SIDE, bicubic with antialias as Pillow does for floats, clipped to [0, 1]: (B, C, H, W)."""
    return interpolate(images, size=(SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


WAYS: dict[str, tuple[str, Callable[[Tensor], Tensor] | None]] = {  # by metric: description; None: as pytorch_fid
    "fid": ("bilinear 299, no antialias", None),
    "fid_tensorflow1": ("bilinear 299 of TensorFlow 1, (v - 128) / 128", like_tensorflow1),
    "fid_clean": ("bicubic 299, antialias, (v - 128) / 128", bicubic),
}


class Inception(nn.Module):
    """pytorch_fid's InceptionV3 up to its last pooling, (B, 3, H, W) in [0, 1] -> (B, 2048).

    resize: a function to 299 x 299 pixels in [0, 1], which are then scaled by (v - 128) / 128; None: as pytorch_fid.
    """

    def __init__(self, state: dict[str, Tensor], resize: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.resize = resize
        # The library downloads its weights inside the constructor; this replaces them.
        with replaced(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: state):
            self.network = pytorch_fid.InceptionV3(resize_input=resize is None)
        # The library drops the classification layer. The Inception Score is defined on its logits without bias.
        classes, dims = state["fc.weight"].shape  # (1008, 2048)
        self.head = nn.Linear(dims, classes, bias=False)
        self.head.weight.data.copy_(state["fc.weight"])

    def forward(self, images: Tensor) -> Tensor:
        if self.resize is not None:
            images = self.resize(images) * (255 / 256)  # the network computes 2 v - 1
        return self.network(images)[0].flatten(1)


class EarlyFeatures(nn.Module):
    """The network up to its third convolution, averaged over pixels: (B, C, H, W) in [0, 1] -> (B, 64).

    It is differentiable, so a method can use it in a loss (methods.md 4.5); grey images are replicated.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.layers = Inception(state).network.blocks[0][:3]

    def forward(self, images: Tensor) -> Tensor:
        x = interpolate(images.expand(-1, 3, -1, -1), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return self.layers(2 * x - 1).mean((2, 3))


@cache
def early_features(device: torch.device | str) -> nn.Module:
    """Returns a shared `EarlyFeatures`, with the weights from torch hub's cache or a download.

    Raises ValueError if the weights are unavailable.
    """
    return frozen(EarlyFeatures(_from_hub()), device)


def inception(weights: str | Path | None = None, device: torch.device | str = "cpu", metric: str = "fid") -> Extractor:
    """Returns the extractor of the FID, with weights from a file, or from torch hub's cache or a download.

    metric: one of WAYS. Raises ValueError if the file does not exist or has other weights, or the download fails.
    """
    state = _read(Path(weights)) if weights is not None else _from_hub()
    source = weights if weights is not None else WEIGHTS
    words, resize = WAYS[metric]
    try:
        network = Inception(state, resize)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(_not_the_weights(source)) from error
    network = frozen(network, device)
    return Extractor(
        name="inception-2015",
        metric=metric,
        dims=2048,
        channels=3,
        resize=words,
        fingerprint=fingerprint(state),
        network=network,
        device=torch.device(device),
        head=network.head,
    )


def _read(path: Path) -> dict[str, Tensor]:
    refuse_missing(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load passes on errors of zip and pickle
        raise ValueError(_not_the_weights(path)) from error


def refuse_missing(path: Path) -> None:
    """Raises ValueError if there is no file of weights at `path`."""
    if not path.is_file():
        raise ValueError(f"--fid-weights {path}: no such file; expected {WEIGHTS}")


def _not_the_weights(source: str | Path) -> str:
    return f"{source} does not contain the weights of the FID's network; expected {WEIGHTS}"


def hub_file() -> Path:
    """Returns where torch hub's cache has the weights, downloaded or not."""
    return Path(torch.hub.get_dir(), "checkpoints", WEIGHTS)


def _from_hub() -> dict[str, Tensor]:
    path = hub_file()
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            checksum = WEIGHTS.removesuffix(".pth").rsplit("-", 1)[1]
            torch.hub.download_url_to_file(pytorch_fid.FID_WEIGHTS_URL, str(path), checksum, progress=False)
        except (OSError, RuntimeError) as error:  # network, disk, or checksum of the download
            raise ValueError(
                f"the FID's weights could not be downloaded ({error}); give them with --fid-weights PATH, "
                f"or put {WEIGHTS} in {path.parent}, or use --metric fcd"
            ) from error
    return _read(path)
