"""The interface of feature extractors: images in [0, 1] to features, with a known recipe.

B batch, C H W image, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Extractor:
    """A frozen network and the details that identify it in a recipe.

    name: "inception-2015", "classifier-digits", ...; metric: the name of the distance of its features.
    dims: F; channels: input channels of the network; if 3, grey images are replicated.
    resize: how images are resized to the network's size; fingerprint: a short sha256 of the weights.
    distance: a function of features (n, F) and (m, F), if `metric` is not the Fréchet distance of their moments.
    """

    name: str
    metric: str
    dims: int
    channels: int
    resize: str
    fingerprint: str
    network: nn.Module  # (B, C, H, W) in [0, 1] -> (B, F), including resize and scaling
    device: torch.device
    head: nn.Module | None = None  # (B, F) -> (B, K), logits of classes, if the network has any
    distance: Callable[[Tensor, Tensor], float] | None = None

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Computes features (B, F), float32 on the extractor's device, of images (B, C, H, W), floats in [0, 1].

        Images are quantised to 8 bits first, like the real images.
        Raises ValueError for other shapes or channels, values outside [0, 1], or NaN.
        """
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"expected images as floats (B, C, H, W), got {images.dtype} {tuple(images.shape)}; "
                "divide 8-bit images by 255"
            )
        images = images.to(self.device, torch.float32)
        if images.shape[1] == 1 and self.channels == 3:
            images = images.expand(-1, 3, -1, -1)
        if images.shape[1] != self.channels:
            raise ValueError(f"{self.name} takes images of {self.channels} channels, got {images.shape[1]}")
        if len(images):
            low, high = (bound.item() for bound in images.aminmax())
            if not (low >= 0 and high <= 1):  # NaN fails both
                raise ValueError(f"expected images in [0, 1] without NaN, got values from {low:g} to {high:g}")
        with torch.autocast(self.device.type, enabled=False):  # which a method may have left on
            return self.network(images.mul(255).round().div(255))


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Returns a short sha256 of named tensors, independent of their order."""
    sha = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def frozen(network: Network, device: torch.device | str) -> Network:
    """Moves the network to the device, in eval mode and without gradients of its weights."""
    return network.eval().requires_grad_(False).to(device)
