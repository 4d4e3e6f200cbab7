"""The front door: names, options, splits."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from urllib.error import URLError

import numpy as np
import pytest
from layouts import rows, write_mnist

from trainables import datasets
from trainables.datasets import load, mnist, names


def test_names_lists_every_file_without_underscore():
    assert {"cifar10", "cifar10-jpeg", "cosine", "digits", "fashion_mnist", "mnist", "svhn"} <= set(names())
    assert names() == sorted(names())
    assert not [name for name in names() if name.startswith("_")]


def test_a_new_file_is_a_new_data_set(tmp_path, monkeypatch):
    (tmp_path / "stripes.py").write_text(
        "import numpy as np\n"
        "from trainables.datasets._source import Part, Source\n"
        "def read(root, download):\n"
        "    part = Part(np.zeros((20, 1, 4, 4), np.uint8))\n"
        "    return Source('stripes', part, part, like='mnist')\n"
    )
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path)])
    assert "stripes" in names()
    assert load("stripes", tmp_path).shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("wrong", "meant"), [("mnits", "mnist"), ("cifar-10", "cifar10"), ("Fashion-MNIST", "fashion_mnist")]
)
def test_an_unknown_name_gets_the_nearest_and_all_names(wrong, meant, tmp_path):
    with pytest.raises(ValueError, match=rf"'{wrong}' is not known; did you mean '{meant}'.*svhn.*folder:PATH"):
        load(wrong, tmp_path)


def test_a_name_like_no_other_gets_no_guess(tmp_path):
    with pytest.raises(ValueError, match=r"is not known \(known: ") as error:
        load("xyzzy", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, -3, 3, 5000])
def test_a_wrong_size_is_refused(size, tmp_path):
    with pytest.raises(ValueError, match=rf"size must be .*from 4 to 4096.*got {size}$"):
        load("digits", tmp_path, size=size)


def test_a_wrong_number_of_channels_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"channels must be 1 .*3 .*got 2$"):
        load("digits", tmp_path, channels=2)


def test_digits_are_scaled_and_split(tmp_path):
    from sklearn.datasets import load_digits

    splits = load("digits", tmp_path)
    assert (splits.name, splits.like, splits.shape) == ("digits", "mnist", (1, 8, 8))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (1197, 300, 300)
    parts = [splits.train, splits.valid, splits.test]
    assert rows(np.concatenate([part.images for part in parts])) == rows(
        np.array(
            [[[int(level * 255 / 16 + 0.5) for level in line] for line in x] for x in load_digits().images],
            np.uint8,
        )
    )
    for part in parts:
        assert part.images.dtype == np.uint8 and part.images.flags.c_contiguous
        assert part.labels.dtype == np.int64 and part.labels.shape == (len(part),)
    assert list(tmp_path.iterdir()) == []  # nothing is written for what lies in memory


def test_labels_stay_with_their_digits(tmp_path):
    from sklearn.datasets import load_digits

    true = {x.astype(int).tobytes(): y for x, y in zip(*load_digits(return_X_y=True), strict=True)}
    for part in (load("digits", tmp_path).train, load("digits", tmp_path).test):
        levels = np.round(part.images.reshape(-1, 64) * (16 / 255)).astype(int)  # back to 0..16
        assert [true[level.tobytes()] for level in levels] == part.labels.tolist()


def test_the_splits_are_disjoint_and_whole(tmp_path, random):
    written = write_mnist(tmp_path, random)
    splits = load("mnist", tmp_path)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (27, 3, 7)
    train = written["train-images-idx3-ubyte"]  # random pictures, all different
    assert rows(np.concatenate([splits.train.images, splits.valid.images])) == rows(train)
    assert rows(splits.test.images) == rows(written["t10k-images-idx3-ubyte"])


def test_valid_is_the_last_tenth_of_the_seeded_permutation(tmp_path, random):
    written = write_mnist(tmp_path, random)
    splits = load("mnist", tmp_path, split_seed=5)
    order = np.random.default_rng(5).permutation(30)
    np.testing.assert_array_equal(splits.valid.images[:, 0], written["train-images-idx3-ubyte"][order[-3:]])
    np.testing.assert_array_equal(splits.valid.labels, written["train-labels-idx1-ubyte"][order[-3:]])
    np.testing.assert_array_equal(splits.train.images[:, 0], written["train-images-idx3-ubyte"][order[:-3]])


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_seed_moves_valid_and_never_test(name, tmp_path, random):
    write_mnist(tmp_path, random)
    zero, again, one = (load(name, tmp_path, split_seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(zero.valid.images, again.valid.images)
    assert rows(zero.valid.images) != rows(one.valid.images)
    np.testing.assert_array_equal(zero.test.images, one.test.images)


def test_folds_hold_out_each_image_but_those_of_valid_once():
    whole = load("digits", "unused")
    numbered = np.arange(len(whole.train) + len(whole.test), dtype=np.int64)
    parts = {"train": numbered[: len(whole.train)], "test": numbered[len(whole.train) :]}
    whole = replace(whole, **{name: replace(getattr(whole, name), labels=part) for name, part in parts.items()})
    folds = whole.folds(4, seed=3)
    sizes = {len(fold.test) for fold in folds}
    held_out = np.concatenate([fold.test.labels for fold in folds])
    assert sizes == {len(numbered) // 4} and len(set(held_out)) == len(held_out) == len(numbered) // 4 * 4
    images = np.concatenate([whole.train.images, whole.test.images])
    for fold in folds:
        assert sorted([*fold.train.labels, *fold.test.labels]) == numbered.tolist()
        assert np.array_equal(fold.test.images, images[fold.test.labels]) and fold.valid is whole.valid
    again, other = whole.folds(4, seed=3), whole.folds(4, seed=4)
    assert np.array_equal(again[0].test.labels, folds[0].test.labels)
    assert not np.array_equal(other[0].test.labels, folds[0].test.labels)
    with pytest.raises(ValueError, match=r"digits has \d+ training and test images; 5000 folds need 10000"):
        whole.folds(5000, seed=0)


def test_cosine_is_fifty_points_in_every_split(tmp_path):
    splits = load("cosine", tmp_path)
    assert (splits.like, splits.shape, splits.train.labels) == ("cosine", (2,), None)
    for part in (splits.train, splits.valid, splits.test):
        assert part.images.shape == (50, 2) and part.images.dtype == np.float32
    np.testing.assert_allclose(splits.train.images[[0, -1]], [[-1, -1], [1, -1]], atol=1e-6)
    assert splits.train.images[:, 1].var() == pytest.approx(0.5096, abs=1e-4)  # methods.md 2.11


def test_points_have_no_size(tmp_path):
    with pytest.raises(ValueError, match="cosine: size and channels need pictures"):
        load("cosine", tmp_path, size=32)


def test_missing_files_are_downloaded_on_first_use(tmp_path, random, monkeypatch):
    calls = []

    def fetch(root):
        calls.append(root)
        write_mnist(root, random)

    monkeypatch.setattr(mnist, "_fetch", fetch)
    root = tmp_path / "not yet there"
    assert len(load("mnist", root).train) == 27
    assert len(load("mnist", root).train) == 27
    assert calls == [root]


def _size_of_train(root):
    return len(load("mnist", root).train)


def test_of_many_processes_one_downloads(tmp_path, random, monkeypatch):
    def fetch(root):
        with open(tmp_path / "log", "a") as log:
            log.write("downloaded\n")
        time.sleep(0.3)
        write_mnist(root, random)

    monkeypatch.setattr(mnist, "_fetch", fetch)
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        assert list(pool.map(_size_of_train, [tmp_path / "data"] * 4)) == [27] * 4
    assert (tmp_path / "log").read_text() == "downloaded\n"


def test_missing_files_without_a_network_name_the_ways_out(tmp_path, monkeypatch):
    def fetch(root):
        raise RuntimeError(f"Error downloading:\nTried mirror, got:\n{URLError('no route')}")

    monkeypatch.setattr(mnist, "_fetch", fetch)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte is missing.*no route.*copy.*root.*network") as error:
        load("mnist", tmp_path)
    assert "\n" not in str(error.value)


def test_downloading_can_be_off(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "_fetch", lambda root: pytest.fail("downloaded"))
    with pytest.raises(ValueError, match=r"mnist: .*missing and downloading is off"):
        load("mnist", tmp_path / "absent", download=False)
    assert not (tmp_path / "absent").exists()


def test_a_root_that_may_only_be_read_is_enough(tmp_path, random):
    write_mnist(tmp_path, random)
    (tmp_path / ".lock").mkdir()  # stands where the lock would be written
    assert len(load("mnist", tmp_path).train) == 27


def test_the_root_may_start_with_a_tilde(tmp_path, random, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_mnist(tmp_path / "data", random)
    assert len(load("mnist", "~/data").train) == 27
