"""Arrays that are too large for memory are stored in a file and mapped, with the same splits to the bit."""

import numpy as np
import pytest

from trainables.datasets import Part, Source, _files, _source, load
from trainables.maps import joined, place_of

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 3, 6, 5), dtype=np.uint8)


@pytest.fixture
def everything_is_large(monkeypatch):
    for module in (_files, _source):
        monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(_source, "AT_ONCE", 1000)  # less than the images have


def read(root, download):
    """A reader as users write it; its labels come back with the images."""
    return Source("leaves", Part(IMAGES[:40], np.arange(40) % 2), Part(IMAGES[40:], np.arange(20) % 2))


def stored(folder, layout: str) -> str:
    """The name of a data set that a file or a reader holds."""
    images = {
        "channels first": IMAGES,
        "channels last": IMAGES.transpose(0, 2, 3, 1).copy(),
        "grey": IMAGES[:, 0],
        "floats": (IMAGES / 255).astype(np.float32),
    }
    if layout == "a reader":
        return f"{__name__}:read"
    if layout == "labelled":
        np.savez(folder / "leaves.npz", images=IMAGES, labels=np.arange(60) % 4)
        return f"file:{folder}/leaves.npz"
    np.save(folder / "leaves.npy", images[layout])
    return f"file:{folder}/leaves.npy"


@pytest.fixture
def dataset(tmp_path, monkeypatch, request) -> str:
    monkeypatch.syspath_prepend(request.path.parent)
    return stored(tmp_path, request.param)


LAYOUTS = pytest.mark.parametrize(
    "dataset", ["channels first", "channels last", "grey", "floats", "labelled", "a reader"], indirect=True
)


def same(one, other) -> bool:
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


@LAYOUTS
def test_large_arrays_are_mapped_and_hold_the_same(dataset, tmp_path, request):
    in_memory = load(dataset, tmp_path)
    request.getfixturevalue("everything_is_large")
    mapped = load(dataset, tmp_path)
    parts = [(getattr(mapped, split), getattr(in_memory, split)) for split in ("train", "valid", "test")]
    assert all(same(*pair) for pair in parts)
    assert all(place_of(part.images) and not place_of(other.images) for part, other in parts)
    assert place_of(joined(mapped.train.images, mapped.valid.images))  # trained on if the test split scores
    if in_memory.reading is not None:
        assert mapped.reading.record() == in_memory.reading.record()


@LAYOUTS
def test_folds_of_large_arrays_are_mapped(dataset, tmp_path, request):
    folds = load(dataset, tmp_path).folds(3, seed=1)
    request.getfixturevalue("everything_is_large")
    mapped = load(dataset, tmp_path).folds(3, seed=1)
    for fold, other in zip(mapped, folds, strict=True):
        assert same(fold.train, other.train) and same(fold.test, other.test) and fold.is_fold
        assert place_of(fold.train.images) and place_of(fold.test.images)


@pytest.mark.usefixtures("everything_is_large")
def test_a_changed_file_is_stored_again(tmp_path):
    dataset = stored(tmp_path, "channels first")
    before = load(dataset, tmp_path)
    np.save(tmp_path / "leaves.npy", 255 - IMAGES)
    assert np.array_equal(load(dataset, tmp_path).train.images, 255 - np.asarray(before.train.images))


@pytest.mark.usefixtures("everything_is_large")
def test_images_with_n_last_are_doubted(tmp_path):
    np.save(tmp_path / "last.npy", np.random.default_rng(0).integers(0, 256, (32, 32, 40), dtype=np.uint8))
    reading = load(f"file:{tmp_path}/last.npy", tmp_path).reading
    assert any("if N is the last axis" in doubt for doubt in reading.doubts())


@pytest.mark.usefixtures("everything_is_large")
def test_splits_of_different_shapes_are_refused_as_in_memory(tmp_path):
    """Pictures of different sizes are resized, and arrays are not, unless the user says to what."""
    np.savez(tmp_path / "a.npz", x_train=IMAGES, x_test=IMAGES[:, :1, 1:])
    with pytest.raises(ValueError, match=r"different shapes, 1x5x5 and 3x6x5 .*give --image-size and --channels"):
        load(f"file:{tmp_path}/a.npz", tmp_path)
    assert load(f"file:{tmp_path}/a.npz", tmp_path, size=4, channels=3).test.images.shape[1:] == (3, 4, 4)
