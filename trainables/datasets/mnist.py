"""MNIST, 28x28 grey (LeCun et al., 1998), in torchvision's layout: `<root>/MNIST/raw`."""

from pathlib import Path

from ._download import ensure
from ._idx import read_part
from ._source import Source


def read(root: Path, download: bool) -> Source:
    """Reads 60 000 training and 10 000 test pictures. Raises `ValueError` for missing or damaged files."""
    raw = root / "MNIST" / "raw"
    train = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
    test = raw / "t10k-images-idx3-ubyte", raw / "t10k-labels-idx1-ubyte"
    ensure("mnist", root, train + test, _fetch, download)
    return Source("mnist", read_part(*train), read_part(*test), like="mnist")


def _fetch(root: Path) -> None:
    from torchvision.datasets import MNIST  # slow to import, and rarely needed

    MNIST(root, download=True)
