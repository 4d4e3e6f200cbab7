"""The classifiers of the FCD: shipped ones are as good as their README says, others are trained once."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from trainables.datasets import Split, Splits, load
from trainables.metrics import Moments, extractor, frechet_distance, reference, self_supervised, to_be_trained
from trainables.metrics import classifier as module
from trainables.metrics.classifier import RECIPE, Classifier, accuracy, classifier, learned, train

WEIGHTS = Path(module.__file__).parent / "weights"


def stated(name):
    """The accuracy that the README states."""
    row = re.search(rf"^\| {name} \|.*$", (WEIGHTS / "README.md").read_text(), re.MULTILINE).group()
    return float(re.search(r"0\.\d{4}", row).group())


def data(name):
    if name == "digits":
        return load("digits", "unused")
    if not (root := os.environ.get("SWEEP_TEST_DATA")):
        pytest.skip(f"SWEEP_TEST_DATA does not say where {name} lies")
    return load(name, root, download=False)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("digits", 0.97),
        pytest.param("mnist", 0.99, marks=pytest.mark.slow),
        pytest.param("fashion_mnist", 0.91, marks=pytest.mark.slow),
    ],
)
def test_shipped_weights_reach_the_stated_accuracy(name, least):
    splits = data(name)
    shipped = classifier(splits)
    assert shipped.name == f"classifier-{name}"
    reached = accuracy(shipped.network, splits.test)
    assert reached == pytest.approx(stated(name), abs=2e-4) and reached >= least
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < 600_000


def test_shipped_weights_were_made_by_todays_recipe():
    for path in WEIGHTS.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            assert file.metadata()["recipe"] == str(module.RECIPE), path.name


def test_images_of_another_class_mix_are_farther_than_images_of_the_same():
    splits = data("digits")
    fcd = extractor("fcd", splits)
    images, labels = splits.train.images, splits.train.labels
    real = reference(fcd, splits.test.images)
    same = reference(fcd, images[: len(images) // 2])
    fewer = reference(fcd, images[labels < 5])
    noise = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
    near, far, farthest = (frechet_distance(x, real) for x in (same, fewer, reference(fcd, noise)))
    assert 5 * near < far < farthest


def tiny(labels=True, name="tiny", shape=(3, 8, 8)):
    """Two classes: dark images and bright ones."""
    generator = np.random.default_rng(0)

    def split(n):
        classes = np.arange(n) % 2
        images = generator.integers(0, 128, (n, *shape)) + 127 * classes.reshape(-1, 1, 1, 1)
        return Split(images.astype(np.uint8), classes if labels else None)

    return Splits(name, "cifar10", split(64), split(8), split(16))


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setitem(module.RECIPE, "min_steps", 20)


def test_another_data_set_gets_a_classifier_that_is_trained_once(few_steps, monkeypatch):
    first = classifier(tiny())
    assert (first.name, first.metric, first.channels) == ("classifier-tiny", "fcd", 3)
    assert accuracy(first.network, tiny().test) == 1
    monkeypatch.setattr(module, "train", lambda *_: pytest.fail("trained again"))
    second = classifier(tiny())
    assert first.fingerprint == second.fingerprint
    x = torch.rand(4, 3, 8, 8)
    assert torch.equal(first(x), second(x)) and first(x).shape == (4, 64)


def test_training_repeats_itself_and_leaves_the_random_state_alone(few_steps):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, two = train(tiny()), train(tiny())
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_only_the_training_split_is_learned_from(few_steps):
    splits = tiny()
    turned = Splits(
        "tiny", "cifar10", splits.train, *(Split(s.images, 1 - s.labels) for s in (splits.valid, splits.test))
    )
    assert accuracy(train(turned), turned.test) == 0


def test_the_name_of_a_shipped_classifier_is_not_enough(few_steps):
    """A folder may be called mnist too."""
    assert classifier(tiny(name="mnist", shape=(1, 28, 28))).name == "classifier-mnist"
    splits = data("digits")
    fewer = Splits("digits", "mnist", tiny().train, tiny().valid, tiny().test)
    assert classifier(fewer).fingerprint != classifier(splits).fingerprint


def test_a_data_set_without_labels_or_images_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^tiny has no labels .* use --metric fsd$"):
        extractor("fcd", tiny(labels=False))
    points = Split(np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match=r"^cosine contains points, not images.*$"):
        extractor("fcd", Splits("cosine", "mnist", points, points, points))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 17), (1, 28, 28), (3, 64, 64)])
def test_images_of_all_sizes_have_64_features(shape):
    network = Classifier(shape, 5).eval()
    assert network(torch.rand(2, *shape)).shape == (2, 64)
    assert network.logits(torch.rand(2, *shape)).shape == (2, 5)


def test_the_program_prints_the_accuracy_and_saves(few_steps, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module, "load", lambda *_: tiny())
    module.main(["tiny", "--data-root", str(tmp_path), "--save", str(tmp_path / "w.safetensors")])
    assert capsys.readouterr().out == "tiny: accuracy 1.0000 on 16 test images\n"
    assert module.load_network(tmp_path / "w.safetensors").classes == 2


def test_a_reference_on_a_wrong_dtype_is_refused():
    fcd = extractor("fcd", data("digits"))
    with pytest.raises(ValueError, match=r"at least 2 uint8 images .* got float32"):
        reference(fcd, np.zeros((5, 1, 8, 8), np.float32))
    with pytest.raises(ValueError, match=r"at least 2 uint8 images .* got uint8 \(1, 1, 8, 8\)"):
        reference(fcd, np.zeros((1, 1, 8, 8), np.uint8))


def test_a_reference_is_what_one_pass_gives_whatever_the_batches():
    splits = data("digits")
    fcd = extractor("fcd", splits)
    images = splits.test.images[:100]
    whole = Moments.of(fcd(torch.tensor(images).float() / 255))
    torch.testing.assert_close(reference(fcd, images, batch_size=33).covariance, whole.covariance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("metric", "labels", "what"), [("fcd", True, "classifier of fcd"), ("fsd", False, "network of fsd")]
)
def test_a_training_is_announced_until_it_is_cached(few_steps, monkeypatch, metric, labels, what):
    monkeypatch.setitem(self_supervised.RECIPE, "steps", 20)
    splits = tiny(labels, name=f"announced-{metric}")
    splits.train.images[0] = 7  # of no other test, so not in the cache
    assert to_be_trained(metric, splits) == f"announced-{metric}: training the {what} on 64 images, once ..."
    extractor(metric, splits)
    assert to_be_trained(metric, splits) is None


@pytest.mark.parametrize("metric", ["fid", "cmmd:weights"])
def test_a_metric_of_a_network_from_elsewhere_trains_none(metric):
    assert to_be_trained(metric, tiny()) is None
    assert to_be_trained("fcd", load("digits", "unused")) is None  # shipped


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_far_the_training_is(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("trainables.progress.SECONDS", 0.0)
    batch = torch.rand(4, 1, 8, 8), torch.arange(4) % 2

    def shown(stream: io.StringIO) -> str:
        monkeypatch.setattr("sys.stderr", stream)
        learned((1, 8, 8), 2, [batch] * 3, 3, RECIPE, "cpu")
        return stream.getvalue()

    assert re.search(r"training.*100%", shown(Terminal()))
    assert shown(io.StringIO()) == ""


def test_the_program_refuses_a_file_that_cannot_be_written_before_it_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train", lambda splits: pytest.fail("it trained"))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="--save"):
        module.main(["digits", "--save", str(tmp_path / "file" / "own.safetensors")])
