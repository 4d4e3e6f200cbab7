"""Fashion-MNIST, 28x28 grey (Xiao et al., 2017), in torchvision's layout: `<root>/FashionMNIST/raw`."""

from pathlib import Path

from ._download import ensure
from ._idx import read_part
from ._source import Source


def read(root: Path, download: bool) -> Source:
    """Reads 60 000 training and 10 000 test pictures. Raises `ValueError` for missing or damaged files."""
    raw = root / "FashionMNIST" / "raw"
    train = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
    test = raw / "t10k-images-idx3-ubyte", raw / "t10k-labels-idx1-ubyte"
    ensure("fashion_mnist", root, train + test, _fetch, download)
    return Source("fashion_mnist", read_part(*train), read_part(*test), like="mnist")


def _fetch(root: Path) -> None:
    from torchvision.datasets import FashionMNIST  # slow to import, and rarely needed

    FashionMNIST(root, download=True)
