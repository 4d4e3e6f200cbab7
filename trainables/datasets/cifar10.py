"""CIFAR-10, 32x32 colour (Krizhevsky, 2009), in torchvision's layout: `<root>/cifar-10-batches-py`."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ._download import ensure
from ._errors import reason
from ._source import Part, Source


def read(root: Path, download: bool) -> Source:
    """Reads 50 000 training and 10 000 test pictures. Raises `ValueError` for missing or damaged files."""
    folder = root / "cifar-10-batches-py"
    train = [folder / f"data_batch_{i}" for i in range(1, 6)]
    test = [folder / "test_batch"]
    ensure("cifar10", root, train + test, _fetch, download)
    return Source("cifar10", _part(train), _part(test), like="cifar10")


def _fetch(root: Path) -> None:
    from torchvision.datasets import CIFAR10  # slow to import, and rarely needed

    CIFAR10(root, download=True)


class _Arrays(pickle.Unpickler):
    """Unpickles only NumPy arrays and plain containers, because a downloaded pickle must not run code."""

    def find_class(self, module: str, name: str) -> object:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):  # bytes that Python 3 wrote in an old protocol
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _part(files: Sequence[Path]) -> Part:
    batches = [_batch(file) for file in files]
    images, labels = zip(*batches, strict=True)
    return Part(np.concatenate(images), np.concatenate(labels))


def _batch(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with open(file, "rb") as stream:
            batch = _Arrays(stream, encoding="bytes").load()
        images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch[b"labels"], np.int64)
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} pictures, {len(labels)} labels")
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            f"{file} is not a readable CIFAR-10 batch ({reason(error)}); delete the folder {file.parent} and "
            "load again to renew it"
        ) from error
    return images, labels
