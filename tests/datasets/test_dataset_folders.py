"""Any folder of pictures: layouts, sizes, modes, damage."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import rows, write_picture
from PIL import Image

from trainables.datasets import load, read_pictures


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


def test_the_smallest_folder_has_two_of_each(tmp_path, random):
    fill(tmp_path / "pets", 10, random)
    splits = pets(tmp_path)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (6, 2, 2)


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
    assert set(whole.test.labels) == {0, 1, 2}  # images set aside are not a class


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


@pytest.mark.parametrize(("sides", "side"), [((40, 50, 20), 32), ((300, 500, 900), 64), ((9, 10, 8), 8)])
def test_pictures_of_different_sizes_get_a_common_one(sides, side, tmp_path):
    for i in range(12):
        short, long = sides[i % 3], sides[i % 3] + 3
        write_picture(tmp_path / "pets" / f"{i}.png", np.full((short, long), 20 * i, np.uint8))
    for _ in range(2):  # written, and then read from the file
        splits = pets(tmp_path)
        assert splits.shape == (1, side, side)
        assert f"cropped to squares and resized to {side}x{side} pixels (--image-size N" in splits.reading.words()
    assert len(np.unique(splits.train.images)) == len(splits.train)


def test_pictures_to_be_scored_are_not_resized(tmp_path, random):
    fill(tmp_path / "pets", 12, random)
    write_picture(tmp_path / "pets" / "odd.png", np.zeros((8, 10), np.uint8))
    with pytest.raises(ValueError, match=r"\.png is .*x8 and .*odd\.png is 10x8; resize all pictures") as error:
        read_pictures(tmp_path / "pets")
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
    with pytest.raises(ValueError, match="test holds 0 pictures, but at least 2 "):
        pets(tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match="pets is not a folder"):
        pets(tmp_path)


def test_no_path(tmp_path):
    for name in ("folder", "folder:"):
        with pytest.raises(ValueError, match="folder:PATH"):
            load(name, tmp_path)


def test_the_path_may_start_with_a_tilde_and_end_with_a_slash(tmp_path, random, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "pets", 12, random)
    assert load("folder:~/pets/", tmp_path).name == "pets"


# How a folder was read


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("ds/train", "ds/test"),  # an unpacked archive
        ("ds/ds/train", "ds/ds/test"),
        ("training_set", "test_set"),
        ("Training-Images", "Test-Images"),
        ("trainA", "testA"),
        ("images/train2017", "images/test2017"),
        ("trn", "tst"),
        ("seg_train", "seg_test"),
        ("DIV2K_train_HR", "DIV2K_test_HR"),
        ("My leaves training set", "My leaves test set"),
        ("train_64x64", "test_64x64"),
    ],
)
def test_the_usual_names_of_splits(tmp_path, random, train, test):
    held = fill(tmp_path / "pets" / test, 4, random)
    learned = fill(tmp_path / "pets" / train, 20, random)
    splits = pets(tmp_path)
    assert rows(splits.test.images) == rows(held)
    assert rows(np.concatenate([splits.train.images, splits.valid.images])) == rows(learned)
    assert splits.train.labels is None
    reading = splits.reading
    assert (reading.pictures, reading.classes) == ({"train": 18, "valid": 2, "test": 4}, ())
    assert reading.origins == {"train": train, "valid": "set aside", "test": test}
    assert f"24 pictures: 18 train ({train}), 2 valid (set aside), 4 test ({test}); no classes" == reading.words()


@pytest.mark.parametrize("valid", ["val", "dev", "validation_set", "Valid"])
def test_the_usual_names_of_validation(tmp_path, random, valid):
    held = fill(tmp_path / "pets" / "images" / valid, 4, random)
    fill(tmp_path / "pets" / "images" / "train", 20, random)
    splits = pets(tmp_path)
    assert rows(splits.valid.images) == rows(held)
    assert splits.reading.origins == {"train": "images/train", "valid": f"images/{valid}", "test": "set aside"}


SPLIT_NAMES = {
    "train": ["train", "Training_Set", "train2017", "trn"],
    "valid": ["val", "dev", "validation"],
    "test": ["test", "Test_Set", "tst"],
}


@given(
    above=st.sampled_from(["", "pets", "a b/图"]),
    names=st.fixed_dictionaries({split: st.sampled_from(names) for split, names in SPLIT_NAMES.items()}),
    official=st.sampled_from([("train", "test"), ("train", "valid"), ("train", "valid", "test")]),
    classes=st.lists(st.sampled_from(["cat", "dog", "Über", "0"]), max_size=3, unique=True).filter(
        lambda x: len(x) != 1
    ),
    splits_first=st.booleans(),
    suffix=st.sampled_from([".png", ".bmp", ".TIFF"]),
)
@settings(max_examples=10, deadline=None)
def test_any_layout_of_splits_and_classes(above, names, official, classes, splits_first, suffix):
    """Each picture's pixels say where it was put."""
    with tempfile.TemporaryDirectory() as root:
        for s, split in enumerate(official):
            for c, kind in enumerate(classes or [""]):
                place = (names[split], kind) if splits_first or not kind else (kind, names[split])
                for i in range(12 if split == "train" else 3):
                    picture = np.array([[s, c, i, 255]] * 4, np.uint8)
                    write_picture(Path(root, "set", above, *place, f"{i}{suffix}"), picture)
        splits = load(f"folder:{root}/set", root)
    parts = {split: getattr(splits, split) for split in SPLIT_NAMES}
    assert {split: set(parts[split].images[:, 0, 0, 0]) for split in official} == {
        split: {s} for s, split in enumerate(official)
    }
    for split in set(SPLIT_NAMES) - set(official):  # set aside from the training pictures
        assert len(parts[split]) and set(parts[split].images[:, 0, 0, 0]) == {0}
    total = sum(len(part) for part in parts.values())
    assert total == sum(12 if split == "train" else 3 for split in official) * len(classes or [""])
    assert len({image.tobytes() for part in parts.values() for image in part.images}) == total
    assert splits.reading.classes == tuple(sorted(classes))
    for part in parts.values() if classes else ():
        assert [sorted(classes)[label] for label in part.labels] == [classes[c] for c in part.images[:, 0, 0, 1]]


def test_pictures_of_annotations_are_left_out(tmp_path, random):
    for part, n in (("train", 20), ("val", 4)):
        fill(tmp_path / "pets" / "images" / part, n, random)
        fill(tmp_path / "pets" / "masks" / part, n, random)
    splits = pets(tmp_path)
    assert len(splits.train) + len(splits.test) == 20 and len(splits.valid) == 4
    assert splits.reading.left_out == {"in masks/": 24}


def test_two_domains_are_two_classes(tmp_path, random):
    for name, n in (("trainA", 12), ("trainB", 12), ("testA", 3), ("testB", 3)):
        fill(tmp_path / "pets" / name, n, random)
    splits = pets(tmp_path)
    assert splits.reading.classes == ("A", "B")
    assert sorted(splits.test.labels) == [0, 0, 0, 1, 1, 1]
    assert splits.reading.origins["train"] == "trainA, trainB"


def test_classes_with_a_split_in_their_names_are_classes(tmp_path, random):
    for name in ("steam_train", "bus", "test_tube"):
        fill(tmp_path / "pets" / name, 12, random)
    assert pets(tmp_path).reading.classes == ("bus", "steam_train", "test_tube")


def test_splits_within_each_class(tmp_path, random):
    held = []
    for kind in ("cat", "dog"):
        fill(tmp_path / "pets" / kind / "train", 12, random)
        held += fill(tmp_path / "pets" / kind / "test", 3, random)
    splits = pets(tmp_path)
    assert rows(splits.test.images) == rows(held)
    assert splits.reading.classes == ("cat", "dog") and sorted(splits.test.labels) == [0, 0, 0, 1, 1, 1]
    assert splits.reading.origins["test"] == "*/test"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("val", "test"), "holds test and val, but no folder of training pictures; name one train"),
        (("train", "training", "test"), "holds test, train, training, of which two are the same split"),
        (
            ("a_train", "a_test", "b_train", "b_test"),
            "splits of a_test, a_train and of b_test, b_train; move",
        ),
    ],
)
def test_splits_that_are_ambiguous_are_refused(tmp_path, random, names, words):
    for name in names:
        fill(tmp_path / "pets" / name, 12, random)
    with pytest.raises(ValueError, match=words):
        pets(tmp_path)


def test_what_was_left_out_is_counted_by_its_reason(tmp_path, random):
    for kind in ("cat", "dog", "@eaDir", "__MACOSX", ".cache", "#recycle"):
        fill(tmp_path / "pets" / kind, 6, random)
    for name in ("a.heic", "b.heic", "notes.TXT", "LICENCE"):
        (tmp_path / "pets" / name).write_text("no picture")
    os.mkfifo(tmp_path / "pets" / "pipe.png")  # opening it would wait for ever
    reading = pets(tmp_path).reading
    assert reading.classes == ("cat", "dog") and sum(reading.pictures.values()) == 12
    assert reading.left_out == {"hidden": 4, ".heic": 2, ".txt": 1, "without a suffix": 1, "irregular files": 1}
    assert "left out: 4 hidden, 2 .heic, 1 .txt, 1 irregular files, 1 without a suffix" in reading.words()


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".avif", ".jp2"])
def test_rarer_suffixes_are_pictures(tmp_path, random, suffix):
    fill(tmp_path / "pets", 12, random, (16, 16, 3), suffix)
    assert sum(pets(tmp_path).reading.pictures.values()) == 12


def test_pictures_outside_the_classes_are_warned_of(tmp_path, random):
    for kind in ("cat", "dog"):
        fill(tmp_path / "pets" / kind, 6, random)
    fill(tmp_path / "pets", 1, random)
    splits = pets(tmp_path)
    assert splits.train.labels is None and splits.reading.classes == ()
    assert "no labels, because some pictures of train are outside the class folders" in splits.reading.words()


def test_classes_that_differ_by_case_are_warned_of(tmp_path, random):
    for kind in ("cat", "Cat", "dog"):
        fill(tmp_path / "pets" / kind, 6, random)
    assert "WARNING: the classes Cat, cat differ only in case" in pets(tmp_path).reading.words()


def test_links_to_one_another_count_each_picture_once(tmp_path, random):
    written = {kind: rows(fill(tmp_path / "pets" / kind, 15, random)) for kind in "ab"}
    (tmp_path / "pets" / "b" / "toA").symlink_to("../a")
    (tmp_path / "pets" / "a" / "toB").symlink_to("../b")
    (tmp_path / "pets" / "b" / "copy.png").symlink_to("../a/000.png")
    splits = pets(tmp_path)
    parts = (splits.train, splits.valid, splits.test)
    assert sum(map(len, parts)) == 30
    for part in parts:
        for image, label in zip(part.images, part.labels, strict=True):
            assert image.tobytes() in written["ab"[label]]
    assert splits.reading.left_out == {"links to files already read": 3}


def test_a_link_to_itself_is_named(tmp_path, random):
    fill(tmp_path / "pets", 12, random)
    (tmp_path / "pets" / "loop").symlink_to("loop")
    assert len(pets(tmp_path).test) == 2
    (tmp_path / "pets" / "loop.png").symlink_to("loop.png")
    with pytest.raises(ValueError, match=r"1 of 13 pictures cannot be read: .*loop\.png"):
        pets(tmp_path)


def test_copies_across_splits_are_warned_of(tmp_path, random):
    learned = fill(tmp_path / "pets" / "train", 20, random)
    fill(tmp_path / "pets" / "val", 3, random)
    fill(tmp_path / "pets" / "test", 3, random)
    assert "WARNING" not in pets(tmp_path).reading.words()
    write_picture(tmp_path / "pets" / "val" / "copy.png", learned[3])
    write_picture(tmp_path / "pets" / "test" / "copy.png", learned[4])
    reading = pets(tmp_path).reading
    assert reading.pixels.repeated == 2
    assert "WARNING: 2 pictures of the validation or test split also in an earlier split" in reading.words()


@pytest.mark.parametrize("name", ["ä" * 50, "図" * 33, "a b'c"])
def test_any_name_of_up_to_100_bytes(tmp_path, random, name):
    fill(tmp_path / name, 12, random)
    splits = load(f"folder:{tmp_path / name}", tmp_path)
    assert splits.name == name and len(splits.test) == 2


def test_longer_names_are_refused_and_long_names_of_pictures_are_not(tmp_path, random):
    fill(tmp_path / ("n" * 101), 12, random)
    with pytest.raises(ValueError, match="name is longer than 100 bytes; rename it"):
        load(f"folder:{tmp_path / ('n' * 101)}", tmp_path)
    fill(tmp_path / "pets", 12, random)
    (tmp_path / "pets" / "000.png").rename(tmp_path / "pets" / ("x" * 251 + ".png"))
    assert len(pets(tmp_path).test) == 2


def test_the_reading_can_be_written_as_json(tmp_path, random):
    for kind in ("cats", "dogs\udcff"):  # a name that is not UTF-8
        fill(tmp_path / "pets" / kind, 6, random)
    reading = pets(tmp_path).reading
    found = json.loads(json.dumps(reading.record(), ensure_ascii=False).encode())
    assert found["words"] == reading.words().replace("\udcff", "?") and found["classes"] == ["cats", "dogs?"]
    assert found["pictures"] == {"train": 8, "valid": 2, "test": 2}
