"""Large pretrained networks as extractors, from weights on disk: DINOv2 and CLIP, by Hugging Face's transformers.

    fd_dinov2:PATH  Fréchet distance on the class token of DINOv2 (Stein et al., 2023; their ViT-L/14 is the folder
                    of facebook/dinov2-large)
    cmmd:PATH       1000 times the squared MMD of CLIP's image embeddings by a Gaussian of sigma 10 (Jayasumana et al.,
                    2024; their ViT-L/14 at 336 pixels is the folder of openai/clip-vit-large-patch14-336)

PATH is a folder in the format of `save_pretrained` and of the hub: config.json and model.safetensors. Nothing is
downloaded.

B batch, C H W image, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from trainables.metrics.extractors import Extractor, fingerprint, frozen
from trainables.metrics.kernels import cmmd

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of a channel
OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DINOV2_SIDE = 224  # pixels, independent of the training of the weights (dgm-eval)


class Pretrained(nn.Module):
    """A vision transformer with the resize of its paper: (B, 3, H, W) in [0, 1] -> (B, F)."""

    mean: Tensor  # (3, 1, 1)
    std: Tensor  # (3, 1, 1)

    def __init__(self, network: nn.Module, side: int, scale: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
        super().__init__()
        self.network, self.side = network, side
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in scale)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        size = (self.side, self.side)
        x = interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        x = x.mul(255).round().div(255)  # both papers resize files with Pillow, to 8 bits
        return self.features((x - self.mean) / self.std)

    def features(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Dinov2(Pretrained):
    def features(self, x: Tensor) -> Tensor:
        return self.network(pixel_values=x).pooler_output  # the class token after the last norm


class Clip(Pretrained):
    """Crops images that are not square to the central square, as the authors' code does."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return super().forward(images[:, :, top : top + side, left : left + side])

    def features(self, x: Tensor) -> Tensor:
        return normalize(self.network(pixel_values=x).image_embeds, dim=1)


def dinov2(path: Path, device: torch.device | str = "cpu") -> Extractor:
    """Returns the extractor of fd_dinov2. Raises ValueError without transformers, or DINOv2 weights in the folder."""
    network = _load("fd_dinov2", path, "Dinov2Model", "dinov2")
    return _extractor(
        "fd_dinov2", f"dinov2-{network.config.hidden_size}", Dinov2(network, DINOV2_SIDE, IMAGENET), device
    )


def clip(path: Path, device: torch.device | str = "cpu") -> Extractor:
    """Returns the extractor of cmmd. Raises ValueError without transformers, or CLIP weights in the folder."""
    network = _load("cmmd", path, "CLIPVisionModelWithProjection", "clip")
    config = network.config
    name = f"clip-{config.projection_dim}-{config.image_size}"
    return _extractor("cmmd", name, Clip(network, config.image_size, OPENAI), device, cmmd)


def _extractor(
    metric: str,
    name: str,
    network: Pretrained,
    device: torch.device | str,
    distance: Callable[[Tensor, Tensor], float] | None = None,
) -> Extractor:
    network = frozen(network, device)
    with torch.no_grad():
        dims = network(torch.zeros(1, 3, 32, 32, device=device)).shape[1]
    return Extractor(
        name=name,
        metric=metric,
        dims=dims,
        channels=3,
        resize=f"bicubic {network.side}, antialias, 8 bits",
        fingerprint=fingerprint(network.state_dict()),
        network=network,
        device=torch.device(device),
        distance=distance,
    )


def _load(metric: str, path: Path, kind: str, family: str) -> Any:
    """A network of transformers, with its `config`."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--metric {metric}:{path} needs transformers; pip install 'autoencoder-sweep[judges]'"
        ) from error
    expected = f"expected a folder of a {family} in Hugging Face's format: config.json and model.safetensors"
    if not (path / "config.json").is_file():
        raise ValueError(f"--metric {metric}:{path}: config.json is missing; {expected}")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        network, info = getattr(transformers, kind).from_pretrained(
            path, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # from the library, JSON or safetensors
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"--metric {metric}:{path} cannot be loaded ({reason}); {expected}") from error
    if missing := info["missing_keys"] | set(info["mismatched_keys"]):
        raise ValueError(
            f"--metric {metric}:{path} lacks {len(missing)} weights, {min(map(str, missing))} first; {expected}"
        )
    return network
