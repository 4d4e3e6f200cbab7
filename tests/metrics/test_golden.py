"""Values that must not move: a change of an instrument shows here before it shows in anybody's conclusions.

methods.md 12.14: the distance of a split to itself is 0, that of training images to test images small, and about
the same whatever training images they are. The rows below are also what a perfect model would get.
"""

import json
from pathlib import Path

import pytest
import torch

from trainables.datasets import load
from trainables.metrics import Moments, Scores, extractor, frechet_distance, reference
from trainables.metrics.ndb import bins, difference
from trainables.metrics.scores import SCORES

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())


def of_training_images(splits, net, seed):
    """The moments of as many random training images as there are test images, at most 10,000."""
    n = min(10_000, len(splits.test.images), len(splits.train.images))
    chosen = torch.randperm(len(splits.train.images), generator=torch.Generator().manual_seed(seed))[:n]
    moments = Moments(net.dims)
    for batch in torch.from_numpy(splits.train.images[chosen.numpy()]).split(500):
        moments.update(net(batch.float() / 255))
    return moments


def check_rows(name, root):
    splits = load(name, root)
    net = extractor("fcd", splits)
    rows = GOLDEN["fcd of training images to the test split"][name]
    assert net.fingerprint == rows["fingerprint"]
    test = reference(net, splits.test.images)
    assert frechet_distance(test, test) == pytest.approx(0, abs=1e-3)
    found = [frechet_distance(of_training_images(splits, net, seed), test) for seed in range(3)]
    assert found == pytest.approx(rows["by seed"], rel=1e-4)  # of what processors round differently


def test_training_digits_are_close_to_test_digits():
    check_rows("digits", "unused")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_training_images_are_close_to_test_images(name, data_root):
    check_rows(name, data_root)


def test_every_score_of_noisy_digits():
    digits = load("digits", "unused")
    generator = torch.Generator().manual_seed(0)
    images = torch.from_numpy(digits.train.images[:300]).float() / 255
    noisy = (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    scores = Scores(extractor("fcd", digits), SCORES, split_size=None)
    scores.update(noisy)
    found = scores.against(digits.test.images)
    fitted = bins(digits.train.images[300:], 100)
    assert found == pytest.approx(GOLDEN["noisy digits"], rel=1e-3)
    # K-means may settle a little differently on another processor
    assert difference(fitted, noisy) == pytest.approx(GOLDEN["noisy digits, ndb and js of 100 bins"], abs=0.02)
