"""The pictures of the AAE paper: 32 x 32 with three channels, faces at 32 and 64, from files in their real layout."""

import numpy as np
import pytest
import torch
from layouts import write_cifar10, write_emnist, write_mnist, write_picture
from torch.nn.functional import interpolate

from trainables.datasets import ffhq, load


def bilinear(images: np.ndarray, size: int) -> np.ndarray:
    """Resized by torch, antialiased, (N, C, H, W) uint8: another implementation than the loader's."""
    resized = interpolate(torch.tensor(images).float(), size=(size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).byte().numpy()


@pytest.mark.parametrize("name, folder", [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("emnist", "EMNIST")])
def test_grey_pictures_at_32_with_three_channels(name, folder, tmp_path, random):
    if name == "emnist":
        small = write_emnist(tmp_path, random).transpose(0, 2, 1)
    else:
        small = write_mnist(tmp_path, random, folder)["t10k-images-idx3-ubyte"]
    splits = load(name, tmp_path, size=32, channels=3)
    assert (splits.shape, splits.like, splits.name) == ((3, 32, 32), "mnist", name)
    assert [len(split) for split in (splits.train, splits.valid, splits.test)] == [27, 3, 7]
    images = splits.test.images
    assert images.dtype == np.uint8 and (images == images[:, :1]).all()
    expected = bilinear(small[:, None], 32)
    assert np.abs(images[:, :1].astype(int) - expected.astype(int)).max() <= 1


def test_cifar10_is_that_size_already(tmp_path, random):
    batches = write_cifar10(tmp_path, random)
    splits = load("cifar10", tmp_path, size=32, channels=3)
    np.testing.assert_array_equal(splits.test.images, batches["test_batch"][b"data"].reshape(-1, 3, 32, 32))


@pytest.mark.parametrize("size", [32, 64])
def test_faces_in_one_flat_folder(size, tmp_path, random, monkeypatch):
    monkeypatch.setattr(ffhq, "COUNT", 14)
    monkeypatch.setattr(ffhq, "TRAIN", 12)
    pictures = random.integers(0, 256, (14, 128, 128, 3), np.uint8)
    for i, picture in enumerate(pictures):
        write_picture(tmp_path / "ffhq" / "thumbnails128x128" / f"{i:05}.png", picture)
    splits = load("ffhq", tmp_path, size=size)
    assert splits.shape == (3, size, size)
    expected = bilinear(pictures[12:].transpose(0, 3, 1, 2), size)
    assert np.abs(splits.test.images.astype(int) - expected.astype(int)).max() <= 1
