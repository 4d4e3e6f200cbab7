"""A file as a data set: arrays, tables with pictures in them, archives; and a stranger's reader."""

import io
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from trainables.datasets import load

N = 40
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(N) % 3 + 5


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))


def everything(splits):
    """All images and labels of the three splits, sorted by the images' bytes."""
    parts = (splits.train, splits.valid, splits.test)
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    order = sorted(range(len(images)), key=lambda i: images[i].tobytes())
    return images[order], labels[order]


def expected():
    images = IMAGES.transpose(0, 3, 1, 2)
    order = sorted(range(N), key=lambda i: images[i].tobytes())
    return images[order], (LABELS - 5)[order]


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def table(images, labels):
    cells = pa.array([{"bytes": encoded(image), "path": None} for image in images])
    return pa.table({"image": cells, "label": labels})


def as_npz(folder):
    np.savez(folder / "leaves.npz", images=IMAGES, labels=LABELS)
    return folder / "leaves.npz"


def as_floats(folder):
    np.savez(folder / "leaves.npz", x=IMAGES.transpose(0, 3, 1, 2) / 255, y=LABELS[:, None])
    return folder / "leaves.npz"


def as_tensors(folder):
    torch.save((torch.tensor(IMAGES), torch.tensor(LABELS)), folder / "leaves.pt")
    return folder / "leaves.pt"


def as_parquet(folder):
    pq.write_table(table(IMAGES, LABELS), folder / "leaves.parquet")
    return folder / "leaves.parquet"


def as_saved_by_hugging_face(folder):
    for split, part in (("train", slice(10, None)), ("test", slice(10))):
        (folder / "leaves" / split).mkdir(parents=True)
        rows = table(IMAGES[part], LABELS[part])
        path = folder / "leaves" / split / "data-00000-of-00001.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows)
    return folder / "leaves"


def as_zip(folder):
    with zipfile.ZipFile(folder / "leaves.zip", "w") as archive:
        for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            archive.writestr(f"leaves/{label}/{i}.png", encoded(image))
    return folder / "leaves.zip"


def as_tar(folder):
    with tarfile.open(folder / "leaves.tar.gz", "w:gz") as archive:
        for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            content = encoded(image)
            entry = tarfile.TarInfo(f"{label}/{i}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return folder / "leaves.tar.gz"


WAYS = [as_npz, as_floats, as_tensors, as_parquet, as_saved_by_hugging_face, as_zip, as_tar]


@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)
def test_every_kind_of_file_gives_the_same_images_and_labels(write, tmp_path):
    splits = load(f"file:{write(tmp_path)}", tmp_path)
    assert splits.name == "leaves" and len(splits.test) in (4, 10)
    for found, wanted in zip(everything(splits), expected(), strict=True):
        assert np.array_equal(found, wanted)


def test_official_splits_are_found_by_the_names_of_arrays(tmp_path):
    np.savez(
        tmp_path / "blood.npz", train_images=IMAGES[:20], val_images=IMAGES[20:30], test_images=IMAGES[30:],
        train_labels=LABELS[:20], val_labels=LABELS[20:30], test_labels=LABELS[30:],
    )  # fmt: skip
    splits = load(f"file:{tmp_path / 'blood.npz'}", tmp_path)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [20, 10, 10]
    assert np.array_equal(splits.test.images, IMAGES[30:].transpose(0, 3, 1, 2))
    assert splits.valid.labels.tolist() == (LABELS[20:30] - 5).tolist()


def test_grey_arrays_without_labels(tmp_path):
    np.save(tmp_path / "grey.npy", IMAGES[..., 0])
    splits = load(f"file:{tmp_path / 'grey.npy'}", tmp_path)
    assert splits.shape == (1, 6, 5) and splits.train.labels is None and splits.like == "mnist"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npy", lambda: np.zeros((N, 6, 5, 4), np.uint8), r"shape \(40, 6, 5, 4\); allowed are"),
        ("a.npy", lambda: np.full((N, 6, 5), 2.0), "floats go from 0 to 1, got 2 to 2"),
        ("a.npy", lambda: np.zeros((N, 6, 5), np.int32), "images are int32; give uint8"),
        ("a.npy", lambda: np.zeros((5, 6, 5), np.uint8), "has 5 train images; at least 10"),
        ("a.npy", lambda: None, "cannot be read"),
        ("a.csv", lambda: None, "a file of images ends in .npy"),
    ],
)
def test_what_holds_no_images_is_refused_in_one_line(name, content, words, tmp_path):
    array = content()
    if array is None:
        (tmp_path / name).write_bytes(b"nothing")
    else:
        np.save(tmp_path / name, array)
    with pytest.raises(ValueError, match=words) as error:
        load(f"file:{tmp_path / name}", tmp_path)
    assert "\n" not in str(error.value)


def test_an_archive_writes_nothing_outside_its_folder(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        entry = tarfile.TarInfo("../../stolen.png")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(ValueError, match=r"evil.tar cannot be read"):
        load(f"file:{tmp_path / 'evil.tar'}", tmp_path)
    assert not list(tmp_path.rglob("stolen.png"))


LAB = """
import numpy as np
from trainables.datasets import Part, Source

def read(root, download):
    images = (np.arange(20 * 4 * 4).reshape(20, 4, 4) % 256).astype(np.uint8)
    return Source("leaves", Part(images, np.arange(20) % 2), Part(images[:4], np.zeros(4)))


def wrong(root, download):
    return [1]

def broken(root, download):
    return root.nothing
"""


def test_a_strangers_reader(tmp_path, monkeypatch):
    (tmp_path / "my_leaves.py").write_text(LAB)
    monkeypatch.syspath_prepend(tmp_path)
    splits = load("my_leaves:read", tmp_path)
    assert (splits.name, splits.shape, len(splits.test)) == ("leaves", (1, 4, 4), 4)
    assert set(splits.train.labels) == {0, 1}
    for name, words in {
        "my_leaves:wrong": "must return a trainables.datasets.Source, got list",
        "my_leaves:broken": r"my_leaves.py:14: AttributeError",
        "my_leaves:reed": "my_leaves has no 'reed'; did you mean 'read'",
        "my_trees:read": "there is no module 'my_trees' to import",
    }.items():
        with pytest.raises(ValueError, match=words) as error:
            load(name, tmp_path)
        assert "\n" not in str(error.value)


def test_how_a_file_was_read_is_said(tmp_path):
    """Also that copies of a picture lie in two splits, as in a set that was doubled."""
    np.savez(tmp_path / "leaves.npz", x_train=IMAGES[4:], x_test=IMAGES[:6], y_train=LABELS[4:], y_test=LABELS[:6], w=0)
    reading = load(f"file:{tmp_path}/leaves.npz", tmp_path).reading
    assert reading.words() == (
        "42 pictures: 33 train (x_train), 3 valid (set aside), 6 test (x_test); 3 classes (0, 1, 2); "
        "left out: 1 array called w; WARNING: 2 pictures of the validation or test split also in an earlier split"
    )


def test_how_tables_were_read_is_said(tmp_path):
    reading = load(f"file:{as_parquet(tmp_path)}", tmp_path).reading
    assert reading.words().startswith("40 pictures: 33 train (leaves.parquet), 3 valid (set aside), 4 test")


def test_points_are_not_called_pictures(tmp_path):
    np.save(tmp_path / "points.npy", np.random.default_rng(0).random((40, 2), np.float32))
    assert load(f"file:{tmp_path}/points.npy", tmp_path).reading is None
