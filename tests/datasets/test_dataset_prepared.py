"""Prepared files: made once, never stale, never half."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from layouts import write_cifar10, write_mnist, write_picture

from trainables.datasets import _prepare, load


@pytest.fixture
def pets(tmp_path, random):
    for i in range(20):
        write_picture(tmp_path / "pets" / f"{i:02}.png", random.integers(0, 256, (8, 8), np.uint8))
    return tmp_path / "pets"


def forbid_decoding(monkeypatch):
    monkeypatch.setattr(_prepare, "_write", lambda *_: pytest.fail("prepared again"))


def test_pictures_are_decoded_once(pets, cache, monkeypatch):
    first = load(f"folder:{pets}", pets)
    forbid_decoding(monkeypatch)
    second = load(f"folder:{pets}", pets)
    np.testing.assert_array_equal(first.train.images, second.train.images)
    assert len(list(cache.glob("pets-*.npy"))) == 1


def test_the_result_is_a_read_only_map(pets):
    images = load(f"folder:{pets}", pets).train.images
    assert isinstance(images, np.memmap) and not images.flags.writeable and images.flags.c_contiguous


@pytest.mark.parametrize("change", ["size", "channels", "split_seed", "new", "touched", "renamed"])
def test_whatever_shapes_the_pictures_makes_another_file(pets, cache, change):
    load(f"folder:{pets}", pets)
    options = {}
    if change == "new":
        write_picture(pets / "new.png", np.zeros((8, 8), np.uint8))
    elif change == "touched":
        os.utime(pets / "03.png", ns=(5, 5))
    elif change == "renamed":
        (pets / "03.png").rename(pets / "99.png")
    else:
        options = {change: {"size": 4, "channels": 3, "split_seed": 1}[change]}
    load(f"folder:{pets}", pets, **options)
    assert len(list(cache.glob("*.npy"))) == 2


def test_a_changed_picture_is_seen(pets):
    load(f"folder:{pets}", pets)
    for file in pets.iterdir():
        write_picture(file, np.full((8, 8), 77, np.uint8))
    assert (load(f"folder:{pets}", pets).train.images == 77).all()


@pytest.mark.parametrize("length", [0, 100, -1])
def test_a_prepared_file_cut_short_is_made_anew(pets, cache, length):
    whole = np.array(load(f"folder:{pets}", pets).train.images)
    (file,) = cache.glob("*.npy")
    file.write_bytes(file.read_bytes()[:length])
    np.testing.assert_array_equal(load(f"folder:{pets}", pets).train.images, whole)


def test_a_preparation_that_dies_leaves_nothing(pets, cache, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        load(f"folder:{pets}", pets)
    assert [file.name for file in cache.iterdir()] == [".lock"]


def _checksum(folder):
    splits = load(f"folder:{folder}", folder)
    return int(splits.train.images.astype(np.int64).sum()), len(splits.test)


def test_of_many_processes_one_prepares(pets, cache, monkeypatch):
    write = _prepare._write

    def slowly(file, *rest):
        with open(cache / "log", "a") as log:
            log.write("prepared\n")
        time.sleep(0.3)
        write(file, *rest)

    monkeypatch.setattr(_prepare, "_write", slowly)
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        assert len(set(pool.map(_checksum, [pets] * 4))) == 1
    assert (cache / "log").read_text() == "prepared\n"
    assert len(list(cache.glob("*.npy"))) == 1
    assert not list(cache.glob("*.partial"))


def test_a_named_set_is_resized_beside_its_data(tmp_path, random, monkeypatch):
    write_mnist(tmp_path, random)
    plain = load("mnist", tmp_path)
    splits = load("mnist", tmp_path, size=32, channels=3)
    assert (splits.name, splits.like, splits.shape) == ("mnist", "mnist", (3, 32, 32))
    np.testing.assert_array_equal(splits.train.labels, plain.train.labels)
    np.testing.assert_array_equal(splits.train.images[:, 0], splits.train.images[:, 1])
    mean = plain.test.images.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(splits.test.images.mean(axis=(1, 2, 3)), mean, atol=2)
    assert len(list((tmp_path / "prepared").glob("mnist-*.npy"))) == 1
    forbid_decoding(monkeypatch)
    load("mnist", tmp_path, size=32, channels=3)


def test_the_native_size_needs_no_preparation(tmp_path, random, monkeypatch):
    write_mnist(tmp_path, random)
    forbid_decoding(monkeypatch)
    assert load("mnist", tmp_path, size=28, channels=1).shape == (1, 28, 28)


def test_colour_turned_grey_stays_like_its_origin(tmp_path, random):
    write_cifar10(tmp_path, random)
    splits = load("cifar10", tmp_path, channels=1, size=16)
    assert (splits.shape, splits.like) == ((1, 16, 16), "cifar10")


def test_a_root_that_cannot_be_written_falls_back_to_the_users_cache(tmp_path, random, cache):
    write_mnist(tmp_path, random)
    (tmp_path / "prepared").write_text("a file where the folder would be")
    load("mnist", tmp_path, size=32)
    assert len(list(cache.glob("mnist-*.npy"))) == 1


def test_nowhere_to_write_is_said_in_one_line(pets, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"pets: cannot write its prepared pictures to .*file.*SWEEP_CACHE") as error:
        load(f"folder:{pets}", pets)
    assert "\n" not in str(error.value)
