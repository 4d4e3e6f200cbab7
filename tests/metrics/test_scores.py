"""All scores from one pass, and golden values: a change of them is a change of every published number."""

import numpy as np
import pytest
import torch

from trainables.datasets import load
from trainables.metrics import Moments, Scores, caveats, extractor, frechet_distance, reference, some_of
from trainables.metrics.scores import SCORES

# The first 600 training digits against the test digits, by the shipped classifier.
GOLDEN = {
    "fcd": 7.6588298,
    "fcd_infinity": 5.3863822,
    "fcd_kid": 6.3553545,
    "fcd_sliced": 7.2389719,
    "fcd_precision": 0.97833333,
    "fcd_recall": 0.91666667,
    "fcd_density": 1.0983333,
    "fcd_coverage": 1,
    "fcd_inception_score": 9.7432299,
    "fcd_inception_score_std": 0.034793827,
}


@pytest.fixture(scope="module")
def digits():
    return load("digits", "unused")


def floats(images):
    return torch.tensor(images).float() / 255


def gather(digits, scores, images, **options):
    gathered = Scores(extractor("fcd", digits), scores, **options)
    for batch in images.split(128):
        gathered.update(batch)
    return gathered


def test_golden_values(digits):
    gathered = gather(digits, SCORES, floats(digits.train.images[:600]), split_size=200)
    values = gathered.against(digits.test.images)
    assert values == pytest.approx(GOLDEN, rel=1e-3, abs=1e-6)


def test_the_distance_alone_keeps_no_features(digits):
    images = floats(digits.train.images[:200])
    gathered = gather(digits, {"distance"}, images)
    fcd = extractor("fcd", digits)
    expected = frechet_distance(Moments.of(fcd(images)), reference(fcd, digits.test.images))
    assert gathered.against(digits.test.images) == {"fcd": pytest.approx(expected, rel=1e-6)}
    assert not gathered._features


def test_unknown_scores_and_missing_classes_are_refused(digits, monkeypatch, request):
    with pytest.raises(ValueError, match=r"unknown scores \['kidd'\]; choose from \['distance', 'inception_score'"):
        Scores(extractor("fcd", digits), {"kidd"})
    monkeypatch.syspath_prepend(request.path.parent)
    with pytest.raises(ValueError, match="class logits, which my_extractors:pixels lacks"):
        Scores(extractor("my_extractors:pixels", digits), {"inception_score"})


def test_one_image_is_refused(digits):
    gathered = gather(digits, {"distance"}, floats(digits.train.images[:1]))
    with pytest.raises(ValueError, match="at least 2 features, got 1; draw more samples"):
        gathered.against(digits.test.images)


def test_a_large_split_is_judged_by_the_same_random_part(digits):
    images = digits.test.images
    assert some_of(images, 300) is images  # all of them, in their order
    part = some_of(images, 40)
    places = [next(i for i, image in enumerate(images) if np.array_equal(image, one)) for one in part]
    assert places == sorted(set(places)) and len(places) == 40 and max(places) > 200
    assert np.array_equal(part, some_of(images, 40))


def test_some_images_of_a_mapped_file_are_mapped_too(digits, tmp_path, monkeypatch):
    """So an evaluation of large images does not hold 10,000 of them in memory; the images are the same."""
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    images = digits.train.images
    np.save(tmp_path / "images.npy", np.concatenate([images[:7], images]))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    part = some_of(mapped[7:], 600)
    assert isinstance(part, np.memmap) and not part.flags.writeable
    assert np.array_equal(part, some_of(images, 600)) and not np.array_equal(part, some_of(mapped[:-7], 600))
    (first, second) = sorted((tmp_path / "cache").glob("*.npy"), key=lambda path: path.stat().st_mtime_ns)
    written = first.stat().st_mtime_ns
    assert np.array_equal(some_of(mapped[7:], 600), part) and first.stat().st_mtime_ns == written
    second.write_bytes(second.read_bytes()[:1000])
    assert np.array_equal(some_of(mapped[:-7], 600), some_of(np.array(mapped[:-7]), 600)), "written again"


def test_caveats_name_few_images_and_collapse(digits):
    fcd = extractor("fcd", digits)
    real = reference(fcd, digits.test.images)
    train = floats(digits.train.images)
    assert caveats(Moments.of(fcd(train[:500])), real) == {}
    assert set(caveats(Moments.of(fcd(train[:50])), real)) == {"few_images"}
    same = train[:1].expand(500, -1, -1, -1)
    assert set(caveats(Moments.of(fcd(same)), real)) == {"collapsed"}
    one_direction = train[:1] * torch.linspace(0.5, 1, 500).reshape(-1, 1, 1, 1)
    found = caveats(Moments.of(fcd(one_direction)), real)
    assert set(found) == {"collapsed"} and "directions instead of" in found["collapsed"]
