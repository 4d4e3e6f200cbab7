"""CelebA at 64x64."""

from pathlib import Path

from . import _celeba
from ._source import Source


def read(root: Path, download: bool) -> Source:
    """Reads the pictures of `_celeba.read`, 64x64."""
    return _celeba.read("celeba64", 64, root, download)
