"""CelebA at 128x128."""

from pathlib import Path

from . import _celeba
from ._source import Source


def read(root: Path, download: bool) -> Source:
    """Reads the pictures of `_celeba.read`, 128x128."""
    return _celeba.read("celeba128", 128, root, download)
