"""What few held-out images can tell."""

from dataclasses import replace

import pytest
import torch

from trainables.datasets import load
from trainables.metrics import Moments, extractor, frechet_distance, reference_features
from trainables.metrics.resolution import resolution


@pytest.fixture(scope="module")
def digits():
    return load("digits", "unused")


def test_with_more_images_a_distance_depends_less_on_their_draw(digits):
    fcd = extractor("fcd", digits)
    few, more = (resolution(fcd, digits.train.images, n) for n in (20, 300))
    assert few.floor > 2 * more.floor and few.spread > 2 * more.spread > 0
    assert "20 held-out images are few for 64 features" in few.words("fcd")
    assert f"differences below {few.spread:.2g} mean nothing" in few.words("fcd")
    assert "± 320 with the draw, so differences below 320 mean" in few._replace(spread=322.4).words("fcd")
    assert "for 64 features" not in more.words("fcd")
    assert more.own and not resolution(replace(fcd, metric="fd_other"), digits.train.images, 300).own


def test_the_spread_covers_what_other_draws_give(digits):
    """Of 200 distances of real images to other draws of 100, about 95 of 100 lie within it around the floor."""
    fcd = extractor("fcd", digits)
    shown = resolution(fcd, digits.train.images, 100)
    features = reference_features(fcd, digits.train.images)
    chance = torch.Generator().manual_seed(7)
    found = []
    for _ in range(200):
        order = torch.randperm(len(features), generator=chance)
        found.append(frechet_distance(*(Moments.of(features[part]) for part in (order[:100], order[100:]))))
    away = torch.tensor(found) - shown.floor
    assert 0.8 < (away.abs() < shown.spread).double().mean() < 1


def test_too_few_images_are_refused(digits):
    with pytest.raises(ValueError, match="got 30 and 31"):
        resolution(extractor("fcd", digits), digits.train.images[:31], 30)
