"""EMNIST, split "balanced", 28x28 grey (Cohen et al., 2017), in torchvision's layout: `<root>/EMNIST/raw`.

The files contain transposed pictures, which are transposed back.
"""

from pathlib import Path

import numpy as np

from ._download import ensure
from ._idx import read_part
from ._source import Part, Source


def read(root: Path, download: bool) -> Source:
    """Reads 112 800 training and 18 800 test pictures. Raises `ValueError` for missing or damaged files."""
    raw = root / "EMNIST" / "raw"
    files = {
        part: (
            raw / f"emnist-balanced-{part}-images-idx3-ubyte",
            raw / f"emnist-balanced-{part}-labels-idx1-ubyte",
        )
        for part in ("train", "test")
    }
    ensure("emnist", root, files["train"] + files["test"], _fetch, download)
    train, test = (_upright(read_part(*files[part])) for part in ("train", "test"))
    return Source("emnist", train, test, like="mnist")


def _fetch(root: Path) -> None:
    from torchvision.datasets import EMNIST  # slow to import, and rarely needed

    EMNIST(root, "balanced", download=True)


def _upright(part: Part) -> Part:
    assert isinstance(part.images, np.ndarray)  # `read_part` returns arrays
    return Part(np.ascontiguousarray(part.images.transpose(0, 1, 3, 2)), part.labels)
