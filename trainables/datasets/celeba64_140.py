"""CelebA at 64x64, from the wider crop of 140x140 that WAE and RAE use (methods.md 8)."""

from pathlib import Path

from . import _celeba
from ._source import Source


def read(root: Path, download: bool) -> Source:
    """Reads the pictures of `_celeba.read`, 64x64, from the central 140x140."""
    return _celeba.read("celeba64_140", 64, root, download, box=_celeba.WIDE_CENTRE)
