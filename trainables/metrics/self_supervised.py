"""The extractor of the fsd: a small network trained on the training images of a data set, without labels.

    python -m trainables.metrics.self_supervised folder:PATH --data-root DIR

trains a network and prints its accuracy on the test split. The task is to predict which of four quarter turns was
applied to an image (Gidaris et al., 2018), or which of two half turns if images are not square. README.md compares its
ranking of models with that of the labelled fcd.

B batch, C H W image, T turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.datasets import Split, Splits, load
from trainables.feed import placed
from trainables.flags import read_flags, run
from trainables.metrics import cache
from trainables.metrics.classifier import Classifier, DataSettings, as_extractor, learned, load_network, save_network
from trainables.metrics.extractors import Extractor

RECIPE: dict[str, Any] = {
    "version": 1,
    "task": "turns",
    "seed": 0,
    "steps": 1500,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
FEWEST = 8  # training images
PROG = "python -m trainables.metrics.self_supervised"


def self_supervised(splits: Splits, device: torch.device | str = "cpu") -> Extractor:
    """Returns the network of a data set as an extractor, trained once on its training split and cached by its images.

    Raises ValueError if the data set has no images, or fewer than 8 training images.
    """
    network = cache.cached(_file(splits), lambda: train(splits, device), load_network, save_network)
    return as_extractor(f"self-supervised-{splits.name}", "fsd", network, device)


def must_be_trained(splits: Splits) -> bool:
    """Whether `self_supervised` must first train one, which can take minutes."""
    return len(splits.shape) == 3 and len(splits.train) >= FEWEST and not cache.holds(_file(splits))


def _file(splits: Splits) -> str:
    """Returns the cache file name of a data set's trained network."""
    _check(splits)
    return f"self-supervised-{cache.digest(splits.train.images, RECIPE)}.safetensors"


def train(splits: Splits, device: torch.device | str = "cpu") -> Classifier:
    """Trains a network on the training images."""
    _check(splits)
    images = placed(splits.train.images, device)  # (N, C, H, W) uint8
    order = torch.Generator().manual_seed(RECIPE["seed"])

    def examples() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(RECIPE["steps"]):
            chosen = torch.randperm(len(images), generator=order)[: RECIPE["batch_size"]]
            yield turned_images(images[chosen.to(images.device)].to(device).float() / 255)

    return learned(splits.shape, turns(splits.shape), examples(), RECIPE["steps"], RECIPE, device)


def turns(shape: tuple[int, ...]) -> int:
    """Returns the number of rotations that preserve the shape (C, H, W) of an image."""
    return 4 if shape[1] == shape[2] else 2


def turned_images(images: Tensor) -> tuple[Tensor, Tensor]:
    """Rotates images (B, C, H, W), with balanced turns; returns them and the turns: (B, C, H, W), (B,)."""
    ways = turns(images.shape[1:])
    parts = [torch.rot90(images[way::ways], way * 4 // ways, (2, 3)) for way in range(ways)]
    by = torch.cat([torch.full((len(part),), way) for way, part in enumerate(parts)])
    return torch.cat(parts), by.to(images.device)


@torch.no_grad()
def accuracy(network: Classifier, split: Split) -> float:
    """Returns the share of a split's images whose turn the network predicts correctly."""
    device, right = next(network.parameters()).device, 0
    for start in range(0, len(split.images), 500):
        images = torch.tensor(split.images[start : start + 500], device=device).float() / 255
        turned, by = turned_images(images)
        right += int((network.logits(turned).argmax(1) == by).sum())
    return right / len(split.images)


def _check(splits: Splits) -> None:
    if len(splits.shape) != 3:
        raise ValueError(f"{splits.name} contains points, not images; use --metric mse")
    if len(splits.train) < FEWEST:
        raise ValueError(f"{splits.name} has {len(splits.train)} training images; fsd needs at least {FEWEST}")


def main(argv: Sequence[str]) -> None:
    settings = read_flags(DataSettings, argv, PROG, __doc__, positional=["dataset"])
    splits = load(settings.dataset, settings.data_root)
    network = train(splits)
    result = f"accuracy {accuracy(network, splits.test):.4f} on {len(splits.test.images)} test images"
    print(f"{splits.name}: {result}, by chance {1 / turns(splits.shape):.2f}")


if __name__ == "__main__":
    run(PROG, main)
