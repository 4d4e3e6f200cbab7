"""SVHN, house numbers, 32x32 colour (Netzer et al., 2011), in torchvision's layout: `<root>/*_32x32.mat`.

The 531 131 "extra" pictures are not used: no paper of the comparison trains on them.
"""

from pathlib import Path

import numpy as np

from ._download import ensure
from ._errors import reason
from ._source import Part, Source


def read(root: Path, download: bool) -> Source:
    """Reads 73 257 training and 26 032 test pictures. Raises `ValueError` for missing or damaged files."""
    train, test = root / "train_32x32.mat", root / "test_32x32.mat"
    ensure("svhn", root, [train, test], _fetch, download)
    return Source("svhn", _part(train), _part(test), like="cifar10")


def _fetch(root: Path) -> None:
    from torchvision.datasets import SVHN  # slow to import, and rarely needed

    SVHN(root, "train", download=True)
    SVHN(root, "test", download=True)


def _part(file: Path) -> Part:
    from scipy.io import loadmat  # a dependency of scikit-learn

    try:
        content = loadmat(file)
        images = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1), np.uint8)  # (N, 3, 32, 32)
        labels = content["y"].reshape(-1).astype(np.int64) % 10  # the file labels the digit 0 as 10
        if images.shape[1:] != (3, 32, 32) or labels.shape != images.shape[:1]:
            raise ValueError(f"pictures of shape {images.shape}, labels of shape {labels.shape}")
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(
            f"{file} is not a readable SVHN file ({reason(error)}); delete it and load again to renew it"
        ) from error
    return Part(images, labels)
