"""The readers of the named sets, on tiny files in the real layouts; damaged files are named."""

import pickle

import numpy as np
import pytest
from layouts import (
    rows,
    write_celeba,
    write_cifar10,
    write_emnist,
    write_idx,
    write_mnist,
    write_picture,
    write_svhn,
)
from PIL import Image

from trainables.datasets import cifar10, cifar10_jpeg, ffhq, load


def raises_one_line(name, root, match):
    with pytest.raises(ValueError, match=match) as error:
        load(name, root, download=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files(name, folder, tmp_path, random):
    written = write_mnist(tmp_path, random, folder)
    splits = load(name, tmp_path, download=False)
    assert (splits.name, splits.like, splits.shape) == (name, "mnist", (1, 28, 28))
    np.testing.assert_array_equal(splits.test.images[:, 0], written["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(splits.test.labels, written["t10k-labels-idx1-ubyte"])
    assert splits.test.labels.dtype == np.int64


def test_idx_files_agree_with_torchvision(tmp_path, random):
    from torchvision.datasets import MNIST

    write_mnist(tmp_path, random)
    theirs = MNIST(tmp_path, train=False)
    ours = load("mnist", tmp_path).test
    np.testing.assert_array_equal(ours.images[:, 0], theirs.data.numpy())
    np.testing.assert_array_equal(ours.labels, theirs.targets.numpy())


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda data: data[:-5], "truncated or damaged"),
        (lambda data: data + b"x", "truncated or damaged"),
        (lambda data: b"", "not an idx file"),
        (lambda data: b"<html>not found</html>", "not an idx file"),
    ],
)
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_idx_file_is_named(damage, what, file, tmp_path, random):
    write_mnist(tmp_path, random)
    path = tmp_path / "MNIST" / "raw" / file
    path.write_bytes(damage(path.read_bytes()))
    raises_one_line("mnist", tmp_path, f"{file} is {what}.*delete it")


def test_labels_that_do_not_match_the_pictures_are_named(tmp_path, random):
    write_mnist(tmp_path, random)
    write_idx(tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte", np.zeros(4))
    raises_one_line("mnist", tmp_path, "train-labels-idx1-ubyte holds 4 labels, but .* 30 pictures")


def test_cifar10_batches(tmp_path, random):
    batches = write_cifar10(tmp_path, random)
    splits = load("cifar10", tmp_path, download=False)
    assert (splits.like, splits.shape) == ("cifar10", (3, 32, 32))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (27, 3, 8)
    # a row of the file is the 1024 red values line by line, then the green, then the blue
    assert splits.test.images[2, 1, 4, 9] == batches["test_batch"][b"data"][2, 1024 + 4 * 32 + 9]
    np.testing.assert_array_equal(splits.test.labels, batches["test_batch"][b"labels"])
    train = np.concatenate([batches[f"data_batch_{i}"][b"data"] for i in range(1, 6)])
    assert rows(np.concatenate([splits.train.images, splits.valid.images])) == rows(train)


def test_cifar10_as_python_2_wrote_it(tmp_path, random):
    # The real files hold Python 2 strings: opcode U where Python 3 would write its own.
    data = bytes(range(256)) * 12
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    state = b"(I1\n(I1\nI3072\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
    text = b"T" + len(data).to_bytes(4, "little") + data
    batch = b"\x80\x02}(U\x04data" + array + state + text + b"tbU\x06labels(lI6\nau."
    write_cifar10(tmp_path, random)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(batch)
    splits = load("cifar10", tmp_path, download=False)
    np.testing.assert_array_equal(splits.test.images.reshape(-1), np.frombuffer(data, np.uint8))
    assert splits.test.labels.tolist() == [6]


@pytest.mark.parametrize("damage", [lambda data: data[:-200], lambda data: b"", lambda data: b"<html>" + data])
def test_a_damaged_batch_is_named(damage, tmp_path, random):
    write_cifar10(tmp_path, random)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(damage(path.read_bytes()))
    raises_one_line("cifar10", tmp_path, "data_batch_3 is not a readable CIFAR-10 batch.*delete the folder")


def test_a_missing_batch_is_named(tmp_path, random):
    write_cifar10(tmp_path, random)
    (tmp_path / "cifar-10-batches-py" / "data_batch_5").unlink()
    raises_one_line("cifar10", tmp_path, "data_batch_5 is missing")


def test_a_batch_runs_no_code(tmp_path, random):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    write_cifar10(tmp_path, random)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Evil()))
    raises_one_line("cifar10", tmp_path, "test_batch is not a readable.*names builtins.print")


def test_svhn_files(tmp_path, random):
    contents = write_svhn(tmp_path, random)
    splits = load("svhn", tmp_path, download=False)
    assert (splits.like, splits.shape) == ("cifar10", (3, 32, 32))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (27, 3, 7)
    test = contents["test_32x32.mat"]
    assert splits.test.images[3, 2, 10, 20] == test["X"][10, 20, 2, 3]
    assert splits.test.images.flags.c_contiguous
    assert splits.test.labels[0] == 0  # the file says 10
    np.testing.assert_array_equal(splits.test.labels, test["y"].reshape(-1) % 10)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\0" * 500])
def test_a_damaged_mat_file_is_named(damage, tmp_path, random):
    write_svhn(tmp_path, random)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(damage(path.read_bytes()))
    raises_one_line("svhn", tmp_path, "test_32x32.mat is not a readable SVHN file")


def test_cifar10_jpeg_is_made_from_cifar10(tmp_path, random):
    write_cifar10(tmp_path, random)
    raw, jpeg = load("cifar10", tmp_path, download=False), load("cifar10-jpeg", tmp_path, download=False)
    assert (jpeg.name, jpeg.like, jpeg.shape) == ("cifar10-jpeg", "cifar10", (3, 32, 32))
    np.testing.assert_array_equal(jpeg.train.labels, raw.train.labels)
    file = tmp_path / "one.jpg"
    Image.fromarray(raw.test.images[0].transpose(1, 2, 0)).save(file, quality=75)
    np.testing.assert_array_equal(jpeg.test.images[0], np.asarray(Image.open(file)).transpose(2, 0, 1))


def test_another_quality_is_not_served_from_the_cache(tmp_path, random, monkeypatch):
    write_cifar10(tmp_path, random)
    before = load("cifar10-jpeg", tmp_path).test.images
    monkeypatch.setattr(cifar10_jpeg, "QUALITY", 20)
    assert (load("cifar10-jpeg", tmp_path).test.images != before).any()


def test_cifar10_jpeg_is_read_from_its_folder(tmp_path, random, monkeypatch):
    monkeypatch.setattr(cifar10, "read", lambda root, download: pytest.fail("read CIFAR-10"))
    for part, n in (("train", 6), ("test", 2)):
        for kind in ("airplane", "truck"):
            for i in range(n):
                picture = random.integers(0, 256, (32, 32, 3), np.uint8)
                write_picture(tmp_path / "cifar10-jpeg" / part / kind / f"{i:04}.jpg", picture)
    splits = load("cifar10-jpeg", tmp_path)
    assert (splits.name, splits.like, splits.shape) == ("cifar10-jpeg", "cifar10", (3, 32, 32))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (10, 2, 4)
    assert sorted(splits.test.labels) == [0, 0, 1, 1]
    assert (tmp_path / "prepared").is_dir()


def test_emnist_stands_upright(tmp_path, random):
    pictures = write_emnist(tmp_path, random)
    splits = load("emnist", tmp_path, download=False)
    assert (splits.name, splits.like, splits.shape) == ("emnist", "mnist", (1, 28, 28))
    np.testing.assert_array_equal(splits.test.images[:, 0], pictures.transpose(0, 2, 1))
    assert splits.test.images.flags.c_contiguous


@pytest.mark.parametrize("side", [64, 128])
def test_celeba_is_cut_to_its_centre_and_keeps_its_splits(side, tmp_path, random):
    colours = write_celeba(tmp_path, random)
    splits = load(f"celeba{side}", tmp_path, download=False)
    assert (splits.name, splits.like, splits.shape) == (f"celeba{side}", "cifar10", (3, side, side))
    for split, expected in colours.items():
        images = getattr(splits, split).images
        assert len(images) == len(expected)
        # JPEG blurs colour at the edges of the centre
        np.testing.assert_allclose(images.mean(axis=(2, 3)), expected, atol=4)
        assert (images.std(axis=(2, 3)) < 8).all()


def write_striped_celeba(root, random):
    """CelebA whose pictures are all the same: columns of 0 and 200 in turn, black outside 140x140."""
    write_celeba(root, random)
    picture = np.zeros((218, 178, 3), np.uint8)
    picture[39:179, 19:159] = np.where(np.arange(140) // 3 % 2, 200, 0)[:, None]
    for file in (root / "celeba" / "img_align_celeba").glob("*.jpg"):
        Image.fromarray(picture).save(file, quality=100, subsampling=0)
    return picture


@pytest.mark.parametrize(
    ("name", "rows", "columns", "resample"),
    [
        ("celeba64", (45, 173), (25, 153), Image.Resampling.BILINEAR),
        ("celeba64_nn", (45, 173), (25, 153), Image.Resampling.NEAREST),
        ("celeba64_140", (39, 179), (19, 159), Image.Resampling.BILINEAR),
        ("celeba128", (45, 173), (25, 153), None),
    ],
)
def test_crops_and_filters_of_celeba(name, rows, columns, resample, tmp_path, random):
    picture = Image.fromarray(write_striped_celeba(tmp_path, random)[slice(*rows), slice(*columns)])
    expected = np.asarray(picture if resample is None else picture.resize((64, 64), resample)).transpose(2, 0, 1)
    splits = load(name, tmp_path, download=False)
    assert (splits.name, splits.like) == (name, "cifar10")
    assert [len(split) for split in (splits.train, splits.valid, splits.test)] == [12, 3, 4]
    for images in (splits.train.images, splits.test.images):
        np.testing.assert_allclose(images[0].astype(int), expected, atol=4)  # JPEG of the best quality


def test_a_missing_celeba_picture_is_named(tmp_path, random):
    write_celeba(tmp_path, random)
    (tmp_path / "celeba" / "img_align_celeba" / "000005.jpg").unlink()
    raises_one_line("celeba64", tmp_path, "000005.jpg is missing, but list_eval_partition.txt lists it")


def test_a_celeba_picture_of_another_size_is_named(tmp_path, random):
    write_celeba(tmp_path, random)
    write_picture(tmp_path / "celeba" / "img_align_celeba" / "000005.jpg", np.zeros((64, 64, 3), np.uint8))
    raises_one_line("celeba64", tmp_path, "000005.jpg .*64x64 is not the size of CelebA's")


def test_a_damaged_celeba_partition_is_named(tmp_path, random):
    write_celeba(tmp_path, random)
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text("<html>\n")
    raises_one_line("celeba64", tmp_path, r"list_eval_partition.txt, line 1: '<html>' must be")


def test_ffhq_is_split_by_number(tmp_path, random, monkeypatch):
    monkeypatch.setattr(ffhq, "COUNT", 14)
    monkeypatch.setattr(ffhq, "TRAIN", 12)
    pictures = random.integers(0, 256, (14, 128, 128, 3), np.uint8)
    for i, picture in enumerate(pictures):
        folder = tmp_path / "ffhq" / "thumbnails128x128" / f"{i // 5:02}000"
        write_picture(folder / f"{i:05}.png", picture)
    splits = load("ffhq", tmp_path)
    assert (splits.like, splits.shape, splits.train.labels) == ("cifar10", (3, 128, 128), None)
    np.testing.assert_array_equal(splits.test.images, pictures[12:].transpose(0, 3, 1, 2))
    assert load("ffhq", tmp_path, size=32).shape == (3, 32, 32)


def test_an_incomplete_ffhq_is_refused(tmp_path, random):
    write_picture(tmp_path / "ffhq" / "thumbnails128x128" / "00000.png", np.zeros((128, 128, 3), np.uint8))
    raises_one_line("ffhq", tmp_path, "thumbnails128x128 holds 1 pictures instead of 70000; get the")
    raises_one_line("ffhq", tmp_path / "absent", "thumbnails128x128 holds 0 pictures")
