"""The Inception Score against its definition and its two ends."""

import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from trainables.metrics.inception_score import InceptionScore


def score(logits, batch=7, split_size=5000):
    stream = InceptionScore(split_size)
    for part in logits.split(batch):
        stream.update(part)
    return stream.value()


def by_definition(logits):
    conditional = Categorical(logits=logits.double())
    marginal = Categorical(probs=conditional.probs.mean(0))
    return kl_divergence(conditional, marginal).mean().exp().item()


def test_score_agrees_with_torch_distributions(generator):
    logits = torch.randn(40, 9, generator=generator)
    assert score(logits) == pytest.approx((by_definition(logits), 0))


def test_splits_are_consecutive_and_what_is_left_over_does_not_count(generator):
    logits = torch.randn(35, 9, generator=generator)
    expected = torch.tensor([by_definition(part) for part in logits[:30].split(10)])
    for batch in (1, 7, 35):
        mean, std = score(logits, batch, split_size=10)
        assert mean == pytest.approx(expected.mean().item())
        assert std == pytest.approx(expected.std(correction=0).item())
    assert score(logits, split_size=None).mean == pytest.approx(by_definition(logits))


def test_its_ends_are_1_and_the_number_of_classes():
    assert score(torch.zeros(20, 10)).mean == pytest.approx(1)
    assert score(1000 * torch.eye(10)).mean == pytest.approx(10)
    assert math.isfinite(score(1e6 * torch.eye(10)).mean)


def test_no_images_have_no_score():
    with pytest.raises(ValueError, match="needs images, got none"):
        InceptionScore().value()
