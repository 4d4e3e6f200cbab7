"""The extractor of the FCD: a small classifier trained on the data set, usable without the FID's weights.

    python -m trainables.metrics.classifier DATASET --data-root DIR [--save FILE]

trains a classifier and prints its accuracy on the test split. The weights for digits, MNIST and Fashion-MNIST are
shipped (weights/README.md); for other labelled data sets the classifier is trained at first use and cached.

B batch, C H W image, F = 64 features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainables.config import UserPath
from trainables.datasets import Split, Splits, load
from trainables.feed import batches, placed
from trainables.files import whole
from trainables.flags import output_file, read_flags, run
from trainables.metrics import cache
from trainables.metrics.extractors import Extractor, fingerprint, frozen
from trainables.progress import shown

FEATURES = 64
RECIPE: dict[str, Any] = {
    "version": 1,
    "seed": 0,
    "epochs": 6,
    "min_steps": 1500,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
SHIPPED = Path(__file__).with_name("weights")
PROG = "python -m trainables.metrics.classifier"


class Classifier(nn.Module):
    """Three convolutions, a layer of 64 features, and a linear head; for images of at least 8 x 8 pixels.

    `forward` returns the features, (B, C, H, W) in [0, 1] -> (B, 64); `logits` returns class scores, (B, K).
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        layers: list[nn.Module] = []
        for out in (16, 32, 64):
            layers.append(nn.Conv2d(channels, out, 3, padding=1))
            channels = out
            if min(height, width) > 4:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                height, width = (height + 1) // 2, (width + 1) // 2
            layers += [nn.BatchNorm2d(out), nn.ReLU()]
        self.shape, self.classes = shape, classes
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, classes)
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images.contiguous(memory_format=torch.channels_last))

    def logits(self, images: Tensor) -> Tensor:
        return self.head(self(images))


def classifier(splits: Splits, device: torch.device | str = "cpu") -> Extractor:
    """Returns the classifier of a data set as an extractor: shipped, or trained on its training split and cached.

    Raises ValueError if the data set has no labels or no images.
    """
    network = _shipped(splits)
    if network is None:
        network = cache.cached(_file(splits), lambda: train(splits, device), load_network, save_network)
    return replace(as_extractor(f"classifier-{splits.name}", "fcd", network, device), head=network.head)


def as_extractor(name: str, metric: str, network: Classifier, device: torch.device | str) -> Extractor:
    """Wraps a trained network as the extractor of a metric."""
    network = frozen(network, device)
    return Extractor(
        name=name,
        metric=metric,
        dims=FEATURES,
        channels=network.shape[0],
        resize="none",
        fingerprint=fingerprint(network.state_dict()),
        network=network,
        device=torch.device(device),
    )


def must_be_trained(splits: Splits) -> bool:
    """Whether `classifier` must first train one, which can take minutes."""
    labelled = len(splits.shape) == 3 and splits.train.labels is not None
    return labelled and _shipped(splits) is None and not cache.holds(_file(splits))


def _file(splits: Splits) -> str:
    """Returns the cache file name of a data set's trained classifier."""
    return f"classifier-{cache.digest(splits.train.images, _labels(splits), RECIPE)}.safetensors"


def train(splits: Splits, device: torch.device | str = "cpu") -> Classifier:
    """Trains a classifier on the training split."""
    own = _labels(splits)
    images = placed(splits.train.images, device)  # (N, C, H, W) uint8
    labels = torch.tensor(own, device=device)  # (N,)
    order = torch.Generator().manual_seed(RECIPE["seed"])
    batch_size = min(RECIPE["batch_size"], len(images))
    steps = len(images) // batch_size
    epochs = max(RECIPE["epochs"], -(-RECIPE["min_steps"] // steps))

    def examples() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(epochs):
            seen = torch.randperm(len(images), generator=order).to(device)[: steps * batch_size]
            fed = batches(images, seen, batch_size, labels.device)
            for x, y in zip(fed, labels[seen].split(batch_size), strict=True):
                yield x.float() / 255, y

    return learned(splits.shape, int(labels.max()) + 1, examples(), epochs * steps, RECIPE, device)


def learned(
    shape: tuple[int, ...],
    classes: int,
    examples: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    recipe: Mapping[str, Any],
    device: torch.device | str,
) -> Classifier:
    """Trains a new network by Adam for `steps` batches: images (B, C, H, W) in [0, 1] and classes (B,).

    `recipe` contains the seed of the weights and the peak learning rate. The random state of the process does not
    change. A terminal shows the progress.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe["seed"])
        network = Classifier(shape, classes).to(device).train()
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["learning_rate"], steps)
    with torch.enable_grad():
        for x, y in shown(examples, "training", steps):
            loss = nn.functional.cross_entropy(network.logits(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: Classifier, split: Split) -> float:
    """Returns the share of a split's images that the network classifies correctly."""
    device = next(network.parameters()).device
    assert split.labels is not None
    right = 0
    for start in range(0, len(split.images), 500):
        images = torch.tensor(split.images[start : start + 500], device=device).float() / 255
        guesses = network.logits(images).argmax(1).cpu()
        right += int((guesses == torch.tensor(split.labels[start : start + 500])).sum())
    return right / len(split.images)


def _shipped(splits: Splits) -> Classifier | None:
    """Returns the shipped classifier for these test images; the name alone could be that of a user's folder."""
    path = SHIPPED / f"{splits.name}.safetensors"
    if path.is_file():
        with safe_open(path, framework="pt") as file:
            if file.metadata()["test_images"] == cache.digest(splits.test.images):
                return load_network(path)
    return None


def _labels(splits: Splits) -> np.ndarray:
    """Returns the labels of the training images, int64 (N,). Raises ValueError if there are no labels or images."""
    if len(splits.shape) != 3:
        raise ValueError(f"{splits.name} contains points, not images; use --metric mse")
    if splits.train.labels is None:
        raise ValueError(f"{splits.name} has no labels to train a classifier on; use --metric fsd")
    return splits.train.labels


def save_network(network: Classifier, path: Path, **metadata: str) -> None:
    shape = " ".join(map(str, network.shape))
    state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    with whole(path) as part:
        save_file(state, part, metadata={"shape": shape, "classes": str(network.classes), **metadata})


def load_network(path: Path) -> Classifier:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        network = Classifier(tuple(map(int, metadata["shape"].split())), int(metadata["classes"]))
    network.load_state_dict(load_file(path))
    return network.eval()


class DataSettings(BaseModel):
    """The flags of a program that trains an extractor."""

    model_config = ConfigDict(extra="forbid")

    dataset: str = Field(description="mnist, digits, ..., or folder:PATH")
    data_root: UserPath = Field(Path("data"), description="folder of the data sets, and for downloads")


class Settings(DataSettings):
    """The flags of this program."""

    save: UserPath | None = Field(None, description="file to write the weights to, as safetensors")


def main(argv: Sequence[str]) -> None:
    settings = read_flags(Settings, argv, PROG, __doc__, positional=["dataset"])
    if settings.save is not None:
        output_file(settings.save, "--save")
    splits = load(settings.dataset, settings.data_root)
    network = train(splits)
    test = splits.test
    print(f"{splits.name}: accuracy {accuracy(network, test):.4f} on {len(test.images)} test images")
    if settings.save is not None:
        save_network(network, settings.save, test_images=cache.digest(test.images), recipe=str(RECIPE))


if __name__ == "__main__":
    run(PROG, main)
