"""The network that needs no labels: trained once on the training images alone, and a judge of what they look like."""

import re

import numpy as np
import pytest
import torch

from trainables.datasets import Split, Splits, load
from trainables.metrics import default_metric, extractor, frechet_distance, reference
from trainables.metrics import self_supervised as module
from trainables.metrics.self_supervised import accuracy, self_supervised, train, turned_images


def bars(shape=(1, 8, 8), name="bars"):
    """Noise whose upper half is bright, so that every turn shows."""
    generator = np.random.default_rng(0)

    def split(n):
        images = generator.integers(0, 128, (n, *shape))
        images[:, :, : shape[1] // 2] += 127
        return Split(images.astype(np.uint8))

    return Splits(name, "mnist", split(64), split(16), split(16))


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setitem(module.RECIPE, "steps", 30)


def test_turns_are_those_of_numpy_and_equally_many():
    images = torch.rand(8, 3, 5, 5)
    turned, by = turned_images(images)
    assert by.bincount().tolist() == [2, 2, 2, 2]
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    for i, image, way in zip(order, turned, by.tolist(), strict=True):
        assert np.array_equal(image.numpy(), np.rot90(images[i].numpy(), way, (1, 2)))
    turned, by = turned_images(torch.rand(4, 1, 4, 6))
    assert turned.shape == (4, 1, 4, 6) and by.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12)])
def test_it_learns_its_task_without_labels(few_steps, shape):
    splits = bars(shape)
    assert accuracy(train(splits), splits.test) == 1


def test_it_is_trained_once_and_named_for_what_it_is(few_steps, monkeypatch):
    first = extractor("fsd", bars())
    assert (first.name, first.metric, first.channels, first.dims) == ("self-supervised-bars", "fsd", 1, 64)
    monkeypatch.setattr(module, "train", lambda *_: pytest.fail("trained again"))
    second = self_supervised(bars(name="renamed"))
    assert first.fingerprint == second.fingerprint


def test_other_images_have_a_network_of_their_own(few_steps):
    assert self_supervised(bars()).fingerprint != self_supervised(bars((1, 9, 9))).fingerprint


def test_training_repeats_itself_and_leaves_the_random_state_alone(few_steps):
    state = torch.get_rng_state()
    one, two = train(bars()), train(bars())
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_real_images_are_near_and_what_is_wrong_with_others_is_seen():
    splits = load("digits", "unused")
    fsd = extractor("fsd", splits)
    images, labels = splits.train.images, splits.train.labels
    real = reference(fsd, splits.test.images)
    noise = np.random.default_rng(0).integers(-96, 97, images.shape)
    noisy = (images + noise).clip(0, 255).astype(np.uint8)
    sets = (images, images[labels < 4], noisy)
    same, fewer, spoilt = (frechet_distance(reference(fsd, some), real) for some in sets)
    assert 1.5 * same < fewer < spoilt


def test_it_is_the_default_where_there_are_no_labels():
    digits = load("digits", "unused")
    assert default_metric(digits) == "fcd" and default_metric(bars()) == "fsd"
    points = Split(np.zeros((20, 2), np.float32))
    assert default_metric(Splits("points", "mnist", points, points, points)) == "mse"


def test_what_it_cannot_learn_from_is_refused_in_one_line():
    points = Split(np.zeros((20, 2), np.float32))
    with pytest.raises(ValueError, match=r"^cosine contains points, not images; use --metric mse$"):
        extractor("fsd", Splits("cosine", "mnist", points, points, points))
    few = Split(np.zeros((7, 1, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"^few has 7 training images; fsd needs at least 8$"):
        extractor("fsd", Splits("few", "mnist", few, few, few))


def test_the_program_prints_the_accuracy_beside_that_of_chance(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "train", lambda splits: module.Classifier((1, 8, 8), 4).eval())
    module.main(["digits"])
    assert re.fullmatch(r"digits: accuracy 0\.\d{4} on 300 test images, by chance 0\.25\n", capsys.readouterr().out)
