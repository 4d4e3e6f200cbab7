"""CelebA at 64x64 with nearest-neighbour resizing, as used for Balancing's Table 3 (methods.md 3.4)."""

from pathlib import Path

from PIL import Image

from . import _celeba
from ._source import Source


def read(root: Path, download: bool) -> Source:
    """Reads the pictures of `_celeba.read`, 64x64, nearest neighbour."""
    return _celeba.read("celeba64_nn", 64, root, download, resample=Image.Resampling.NEAREST)
