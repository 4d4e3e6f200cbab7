"""Any folder of pictures: layouts, sizes, modes, damage."""

import os

import numpy as np
import pytest
from layouts import rows, write_picture
from PIL import Image

from trainables.datasets import load


def fill(folder, n, random, size=(8, 8), suffix=".png"):
    """n random pictures of `size`, (H, W) or (H, W, 3), in `folder`; returns them."""
    pictures = [random.integers(0, 256, size, np.uint8) for _ in range(n)]
    for i, picture in enumerate(pictures):
        write_picture(folder / f"{i:03}{suffix}", picture)
    return pictures


def pets(tmp_path, **options):
    return load(f"folder:{tmp_path / 'pets'}", tmp_path / "no root", **options)


def test_a_flat_folder(tmp_path, random):
    pictures = fill(tmp_path / "pets", 40, random)
    splits = pets(tmp_path)
    assert (splits.name, splits.like, splits.shape) == ("pets", "mnist", (1, 8, 8))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (33, 3, 4)
    assert splits.train.labels is None
    parts = [part.images for part in (splits.train, splits.valid, splits.test)]
    assert rows(np.concatenate(parts)) == rows(pictures)
    assert all(part.dtype == np.uint8 and part.flags.c_contiguous for part in parts)
    assert not (tmp_path / "no root").exists()


def test_the_smallest_folder_has_one_of_each(tmp_path, random):
    fill(tmp_path / "pets", 10, random)
    splits = pets(tmp_path)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (8, 1, 1)


def test_class_subfolders_give_labels(tmp_path, random):
    written = {kind: rows(fill(tmp_path / "pets" / kind, 10, random)) for kind in ("dog", "cat")}
    splits = pets(tmp_path)
    for part in (splits.train, splits.valid, splits.test):
        for image, label in zip(part.images, part.labels, strict=True):
            assert image.tobytes() in written[("cat", "dog")[label]]  # labels follow the sorted names


def test_the_first_few_pictures_show_all_classes(tmp_path, random):
    for kind in ("a", "b", "c"):
        for part in ("train", "test"):
            fill(tmp_path / "pets" / part / kind, 20, random)
    assert set(pets(tmp_path).test.labels[:12]) == {0, 1, 2}
    whole = load(f"folder:{tmp_path / 'pets' / 'train'}", tmp_path)
    assert set(whole.test.labels) == {0, 1, 2}  # what is set aside is no class of its own


def test_official_splits(tmp_path, random):
    test = fill(tmp_path / "pets" / "test", 4, random)
    train = fill(tmp_path / "pets" / "train", 20, random)
    fill(tmp_path / "pets" / "leftover", 3, random)
    splits = pets(tmp_path)
    assert rows(splits.test.images) == rows(test)
    assert rows(np.concatenate([splits.train.images, splits.valid.images])) == rows(train)
    assert len(splits.valid) == 2


def test_official_validation(tmp_path, random):
    written = {part: fill(tmp_path / "pets" / part, 12, random) for part in ("Training", "Val", "TEST")}
    splits = pets(tmp_path)
    assert rows(splits.train.images) == rows(written["Training"])
    assert rows(splits.valid.images) == rows(written["Val"])
    assert rows(splits.test.images) == rows(written["TEST"])


def test_official_validation_without_test(tmp_path, random):
    train = fill(tmp_path / "pets" / "train", 20, random)
    valid = fill(tmp_path / "pets" / "valid", 3, random)
    splits = pets(tmp_path)
    assert rows(splits.valid.images) == rows(valid)
    assert rows(np.concatenate([splits.train.images, splits.test.images])) == rows(train)
    assert len(splits.test) == 2


def test_labels_agree_across_official_splits(tmp_path, random):
    for kind in ("ant", "bee", "cow"):
        fill(tmp_path / "pets" / "train" / kind, 5, random)
    cows = fill(tmp_path / "pets" / "test" / "cow", 2, random)
    splits = pets(tmp_path)
    assert rows(splits.test.images) == rows(cows)
    assert splits.test.labels.tolist() == [2, 2]
    assert sorted(set(splits.train.labels)) == [0, 1, 2]


def test_a_class_named_train_is_a_class(tmp_path, random):
    for kind in ("train", "bus"):
        fill(tmp_path / "pets" / kind, 6, random)
    splits = pets(tmp_path)
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 12
    assert set(splits.train.labels) == {0, 1}


def test_other_files_are_ignored(tmp_path, random):
    fill(tmp_path / "pets", 12, random)
    (tmp_path / "pets" / "README.txt").write_text("about")
    (tmp_path / "pets" / "._000.png").write_bytes(b"\0")
    (tmp_path / "pets" / ".thumbnails").mkdir()
    (tmp_path / "pets" / ".thumbnails" / "a.png").write_bytes(b"\0")
    splits = pets(tmp_path)
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 12


def test_a_link_to_a_class_counts_and_a_link_upwards_does_not_loop(tmp_path, random):
    fill(tmp_path / "elsewhere", 6, random)
    fill(tmp_path / "pets" / "cat", 6, random)
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pets" / "cat" / "up").symlink_to(tmp_path / "pets")
    splits = pets(tmp_path)
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 12


def test_the_order_is_the_sorted_names_whatever_the_disk_says(tmp_path, random, monkeypatch):
    fill(tmp_path / "pets", 20, random)
    first = pets(tmp_path)
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: list(scandir(path))[::-1])
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "another"))
    second = pets(tmp_path)
    np.testing.assert_array_equal(first.train.images, second.train.images)


def test_differing_sizes_name_two_files(tmp_path, random):
    fill(tmp_path / "pets", 12, random)
    write_picture(tmp_path / "pets" / "odd.png", np.zeros((8, 10), np.uint8))
    with pytest.raises(ValueError, match=r"\.png is .*x8 and .*\.png is .*x8; give a size") as error:
        pets(tmp_path)
    assert "odd.png is 10x8" in str(error.value)
    assert "\n" not in str(error.value)


def test_size_crops_the_centre_and_resizes(tmp_path):
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, 4:12] = 200  # the central square
    for i in range(12):
        write_picture(tmp_path / "pets" / f"{i}.png", picture)
    write_picture(tmp_path / "pets" / "tall.png", picture.transpose(1, 0, 2))
    splits = pets(tmp_path, size=4)
    assert splits.shape == (3, 4, 4)
    assert (splits.train.images == 200).all() and (splits.test.images == 200).all()


def test_resizing_is_antialiased(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::4] = 255  # plain bilinear sampling would meet or miss the lines
    for i in range(12):
        write_picture(tmp_path / "pets" / f"{i}.png", stripes)
    images = pets(tmp_path, size=8).train.images
    assert np.abs(images[..., 1:-1].astype(int) - 64).max() <= 2


def test_channels(tmp_path, random):
    fill(tmp_path / "pets", 12, random, (8, 8, 3))
    colour, grey = pets(tmp_path), pets(tmp_path, channels=1)
    assert (colour.shape, colour.like) == ((3, 8, 8), "cifar10")
    assert (grey.shape, grey.like) == ((1, 8, 8), "mnist")
    luma = np.array([0.299, 0.587, 0.114]) @ colour.test.images.reshape(len(colour.test), 3, -1)
    np.testing.assert_allclose(grey.test.images.reshape(len(grey.test), -1), luma, atol=1)


def test_replicated_grey_stays_like_grey(tmp_path, random):
    fill(tmp_path / "pets", 12, random)
    splits = pets(tmp_path, channels=3)
    assert (splits.shape, splits.like) == ((3, 8, 8), "mnist")
    np.testing.assert_array_equal(splits.train.images[:, 0], splits.train.images[:, 2])


def test_one_colour_picture_makes_the_set_colour(tmp_path, random):
    fill(tmp_path / "pets", 12, random)
    write_picture(tmp_path / "pets" / "red.png", random.integers(0, 256, (8, 8, 3), np.uint8))
    assert pets(tmp_path).shape == (3, 8, 8)


def test_sixteen_bits_become_eight(tmp_path):
    for i in range(12):
        write_picture(tmp_path / "pets" / f"{i}.png", np.full((8, 8), 40_000, np.uint16))
    splits = pets(tmp_path)
    assert splits.shape == (1, 8, 8)
    assert (splits.train.images == 40_000 >> 8).all()


def test_a_camera_picture_is_turned_upright(tmp_path):
    sideways = np.zeros((8, 8), np.uint8)
    sideways[:, :4] = 255  # bright on the left as stored; orientation 6 turns that to the top
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "pets").mkdir()
    for i in range(12):
        Image.fromarray(sideways).save(tmp_path / "pets" / f"{i}.jpg", exif=exif, quality=95)
    image = pets(tmp_path).train.images[0, 0].astype(int)
    assert image[:4].min() > 200 and image[4:].max() < 50


def damaged(folder, names):
    for name in names:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("options", [{}, {"size": 4, "channels": 1}])
def test_damaged_files_are_counted_and_the_first_few_named(tmp_path, random, options):
    folder = tmp_path / "pets"
    fill(folder, 30, random, (64, 64, 3), ".jpg")
    bad = ["003.jpg", "011.jpg", "017.jpg", "023.jpg"]
    damaged(folder, bad)  # headers are whole
    (folder / "027.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"5 of 30 pictures cannot be read: .* and 2 more") as error:
        pets(tmp_path, **options)
    text = str(error.value)
    assert sum(name in text for name in [*bad, "027.jpg"]) == 3
    assert "\n" not in text


def test_one_damaged_file_is_named(tmp_path, random, cache):
    fill(tmp_path / "pets", 12, random)
    damaged(tmp_path / "pets", ["004.png"])
    with pytest.raises(ValueError, match=r"1 of 12 pictures cannot be read: .*004\.png.*repair or remove"):
        pets(tmp_path)
    assert not list(cache.glob("*.npy*"))


def test_a_broken_link_is_named(tmp_path, random):
    fill(tmp_path / "pets", 12, random)
    (tmp_path / "pets" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"1 of 13 pictures cannot be read: .*gone\.png"):
        pets(tmp_path)


def test_too_few_pictures(tmp_path, random):
    fill(tmp_path / "pets", 9, random)
    with pytest.raises(ValueError, match="pets holds 9 pictures, but at least 10 are needed"):
        pets(tmp_path)


def test_an_empty_official_split(tmp_path, random):
    fill(tmp_path / "pets" / "train", 12, random)
    (tmp_path / "pets" / "test").mkdir()
    with pytest.raises(ValueError, match="test holds 0 pictures, but at least 1 "):
        pets(tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match="pets is no folder"):
        pets(tmp_path)


def test_no_path(tmp_path):
    for name in ("folder", "folder:"):
        with pytest.raises(ValueError, match="folder:PATH"):
            load(name, tmp_path)


def test_the_path_may_start_with_a_tilde_and_end_with_a_slash(tmp_path, random, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "pets", 12, random)
    assert load("folder:~/pets/", tmp_path).name == "pets"
