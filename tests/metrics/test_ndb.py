"""NDB against SciPy's contingency test; of methods.md 12 the check 13, on the digits and on MNIST itself."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from trainables.datasets import load
from trainables.metrics import cache
from trainables.metrics.ndb import bins, difference


@pytest.fixture(scope="module")
def digits():
    return load("digits", "unused").train


def floats(images):
    return torch.tensor(images).float() / 255


def test_same_images_fill_the_bins_and_missing_classes_empty_them(digits):
    half = len(digits.images) // 2
    fitted = bins(digits.images[:half], 30)
    again, other_half = floats(digits.images[:half]), floats(digits.images[half:])
    assert difference(fitted, again) == pytest.approx((0, 0), abs=1e-9)
    chance = difference(fitted, other_half)
    assert chance.ndb <= 0.15
    fewer = other_half[torch.tensor(digits.labels[half:]) < 6]
    assert difference(fitted, fewer).ndb > 0.4 and difference(fitted, fewer).js > 3 * chance.js


@pytest.mark.slow
def test_mnist_without_a_class_is_found_out(data_root):
    train = load("mnist", data_root, download=False).train
    half, k = 10_000, 100
    fitted = bins(train.images[:half], k)
    other_half, labels = floats(train.images[half : 2 * half]), torch.tensor(train.labels[half : 2 * half])
    chance = difference(fitted, other_half)
    assert chance.ndb <= 0.12  # .05 is expected, and 12 of 100 bins have a chance of 1 in 600
    for missing in (0, 4, 6):
        found = difference(fitted, other_half[labels != missing])
        assert found.ndb > max(0.12, 2 * chance.ndb) and found.js > 4 * chance.js, missing


def test_a_bins_verdict_is_that_of_a_two_proportion_test(digits):
    fitted = bins(digits.images, 10)
    images = floats(digits.images[digits.labels != 3][:200])
    counts, n = fitted.counts.numpy(), int(fitted.counts.sum())
    theirs = torch.bincount(fitted.of(images), minlength=10).numpy()
    p_values = [
        chi2_contingency([[c, n - c], [t, 200 - t]], correction=False).pvalue
        for c, t in zip(counts, theirs, strict=True)
    ]
    found = difference(fitted, images)
    assert found.ndb == np.mean(np.array(p_values) < 0.05) > 0
    assert found.js == pytest.approx(jensenshannon(counts / n, theirs / 200) ** 2)


def test_a_bin_empty_on_both_sides_does_not_differ(digits):
    from dataclasses import replace

    fitted = bins(digits.images[:50], 5)
    nowhere = torch.full((1, fitted.centres.shape[1]), 1e6)
    wider = replace(
        fitted,
        centres=torch.cat([fitted.centres, nowhere]),
        counts=torch.cat([fitted.counts, torch.zeros(1, dtype=torch.long)]),
    )
    assert difference(wider, floats(digits.images[:50])) == (0, 0)


def test_bins_are_fitted_once_and_repeat_themselves(digits, monkeypatch):
    first = bins(digits.images[:100], 5)
    monkeypatch.setattr("trainables.metrics.ndb._fit", lambda *_: pytest.fail("fitted again"))
    again = bins(digits.images[:100], 5)
    assert torch.equal(first.centres, again.centres) and torch.equal(first.counts, again.counts)
    assert first.counts.sum() == 100 and len(list(cache.folder().glob("bins-*.safetensors"))) == 1


def test_of_many_pixels_a_sixth_is_used_and_whitened(generator):
    images = torch.randint(0, 256, (60, 3, 20, 20), generator=generator, dtype=torch.uint8)
    fitted = bins(images.numpy(), 4, whiten=True)
    assert len(fitted.used) == 200 and len(set(fitted.used.tolist())) == 200
    seen = images.flatten(1)[:, fitted.used].float() / 255
    torch.testing.assert_close(fitted.shift, seen.mean(0))
    torch.testing.assert_close(fitted.scale, seen.std(0, correction=0))
    assert difference(fitted, images.float() / 255) == pytest.approx((0, 0), abs=1e-9)


def test_bins_of_some_of_the_images(digits):
    fitted = bins(digits.images, 5, at_most=200)
    assert fitted.counts.sum() == 200 and not torch.equal(fitted.counts, bins(digits.images[:200], 5).counts)
    with pytest.raises(ValueError, match="5 bins need at least 5 images, got at_most = 4; increase it"):
        bins(digits.images, 5, at_most=4)


def test_nonsense_is_refused(digits):
    with pytest.raises(ValueError, match=r"100 bins need at least 100 uint8 images .* got uint8 \(9, 1, 8, 8\)"):
        bins(digits.images[:9])
    with pytest.raises(ValueError, match="needs images, got none"):
        difference(bins(digits.images[:9], 2), torch.empty(0, 1, 8, 8))
